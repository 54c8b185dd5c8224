"""Searches for the best caption, which know a decoder only by its steps."""

from captionlab.search.beam import BeamSearch
from captionlab.search.greedy import GreedySearch
from captionlab.search.protocol import Search

__all__ = ["BeamSearch", "GreedySearch", "Search"]
