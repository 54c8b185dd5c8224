"""Searches for the best caption, which know a decoder only by its steps."""

from captionlab.search.beam import BeamSearch, DiverseBeamSearch
from captionlab.search.ensemble import EnsembleDecoder, EnsembleFeatures
from captionlab.search.greedy import GreedySearch
from captionlab.search.likelihood import (
    attention_maps,
    caption_log_probabilities,
    caption_tokens,
    word_predictions,
)
from captionlab.search.protocol import Search
from captionlab.search.sampling import SampleSearch

__all__ = [
    "BeamSearch",
    "DiverseBeamSearch",
    "EnsembleDecoder",
    "EnsembleFeatures",
    "GreedySearch",
    "SampleSearch",
    "Search",
    "attention_maps",
    "caption_log_probabilities",
    "caption_tokens",
    "word_predictions",
]
