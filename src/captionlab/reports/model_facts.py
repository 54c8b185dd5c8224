"""What is known of one model, in words: for its card, and for whoever looks into a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from captionlab.evaluation.result import Result
from captionlab.metrics import registry
from captionlab.metrics.protocol import Score
from captionlab.types import UNKNOWN_ID

Facts = Mapping[str, Any]  # see `captionlab.captioner.export.read_facts`
_SIZES = {
    "embedding_dim": "word vectors of {}",
    "hidden_dim": "hidden size {}",
    "num_layers": "layers: {}",
    "num_heads": "heads: {}",
    "feature_dim": "positions mapped to {}",
    "attention_dim": "compared in {}",
    "image_dim": "image vector of {}",
}
_NOT_OPTIONS = ("_target_", "name")


class ScoreRow(NamedTuple):
    """One score of a result, each number as tables print it; None where it is not known."""

    score: Score
    value: float
    blind: float | None
    human: float | None


def model_rows(facts: Facts) -> dict[str, str]:
    """Encoder, weights, decoder, conditioning, vocabulary and search, by what they are."""
    config, features = facts["config"], facts["features"]
    preprocessing = features.get("preprocessing", {})
    rows = {"encoder": str(features["encoder"]).partition("/")[0]}
    if "image_size" in preprocessing:
        side = preprocessing["image_size"]
        rows["encoder"] += f", photos of {side}x{side} ({preprocessing['interpolation']})"
    train = config.get("encoder", {}).get("train")
    if train is not None:
        rows["encoder"] += ", frozen" if train == "none" else f", trained (train={train})"
    rows["encoder weights"] = weights_text(facts)
    decoder = config.get("decoder", {})
    rows["decoder"] = _with_sizes(decoder)
    if "conditioning" in config and config["conditioning"].get("name") != "built_in":
        rows["conditioning"] = _with_sizes(config["conditioning"])
    data = config.get("data", {})
    rows["vocabulary"] = f"{num_words(facts)} words"
    if data.get("min_count"):
        rows["vocabulary"] += f", each at least {data['min_count']} times in the training captions"
    search = config.get("search", {})
    rows["search"] = ", ".join(
        [str(search.get("name", "unknown"))]
        + [
            f"{key}={value}"
            for key, value in search.items()
            if key not in _NOT_OPTIONS and value not in (None, [], 0)
        ]
    )
    return rows


def weights_text(facts: Facts) -> str:
    """Name, source and licence of the encoder's weights before training, and where they are."""
    weights = facts.get("encoder_weights", {})
    words = [weights.get("name") or str(facts["features"]["encoder"]).rpartition("/")[2]]
    if weights.get("source"):
        words.append(f"from {weights['source']}")
    if weights.get("licence"):
        words.append(f"licence: {weights['licence']}")
    if "included" in weights:
        words.append("in the file" if weights["included"] else "not in the file")
    return "; ".join(words)


def num_words(facts: Facts) -> int:
    """How many words it can write; padding, start, end and unknown are none."""
    return len(facts["vocabulary"]) - UNKNOWN_ID - 1


def data_text(facts: Facts) -> str:
    """Name of the data set and what identifies it."""
    name = facts["config"].get("data", {}).get("name", "unknown")
    return f"{name} (fingerprint {str(facts['features'].get('corpus', 'unknown'))[:12]})"


def score_rows(result: Result) -> list[ScoreRow]:
    """The scores in the order of tables, times the scale of each."""

    def scaled(values: Mapping[str, float], score: Score) -> float | None:
        return score.scale * values[score.name] if score.name in values else None

    return [
        ScoreRow(
            score,
            score.scale * result.scores[score.name],
            scaled(result.blind, score),
            scaled(result.human, score),
        )
        for score in registry.in_order(list(result.scores))
    ]


def _with_sizes(part: Mapping[str, Any]) -> str:
    sizes = [text.format(part[key]) for key, text in _SIZES.items() if part.get(key) is not None]
    return ", ".join([str(part.get("name", "unknown")), *sizes])
