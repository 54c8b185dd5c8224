"""Small decoders of every kind that ships, random features and captions for them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from captionlab.decoders.cells import StateShape
from captionlab.text import Vocabulary
from captionlab.types import END_ID, PAD_ID, START_ID, FeatureShape, Hypothesis, ImageFeatures
from tests.support.parts import names, part

MakeDecoder = Callable[..., Any]  # any decoder; tests reach into its layers
FEATURES = FeatureShape((2, 3), grid_dim=7, pooled_dim=5)
WORDS = Vocabulary(["<pad>", "<start>", "<end>", "<unk>", *"abcdefg"])  # those of `make_decoder`

# Every decoder that ships, with every conditioning that it can have; the names of `make_decoder`.
DECODERS = [
    pair
    for decoder in names("decoder")
    for pair in product(
        [decoder],
        names("conditioning") if part("decoder", decoder)[0].takes_conditioning else ["built_in"],
    )
]
CONDITIONED = [pair for pair in DECODERS if pair[1] != "built_in"]
OWN_WAYS = [pair for pair in DECODERS if pair[1] == "built_in"]
UNSTACKED = [pair for pair in DECODERS if "stacked" not in pair[0]]  # enough for a search


def make_decoder(
    decoder: str = "lstm",
    conditioning: str = "attention",
    num_layers: int | None = None,
    vocabulary_size: int = len(WORDS),
    dropout: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> Any:
    """A small decoder over features of `FEATURES`.

    Args:
        decoder: name of its configuration or variant.
        conditioning: likewise; unused by a decoder that has its own way.
        num_layers: None for the configuration's.
        vocabulary_size: V.
        dropout: everywhere.
        seed: of its weights.
        options: of the decoder.
    """
    torch.manual_seed(seed)
    kind, values = part(
        "decoder",
        decoder,
        vocabulary_size=vocabulary_size,
        feature_shape=FEATURES,
        num_positions=8,
    )
    values |= {"dropout": dropout, **options}
    if num_layers is not None:
        values["num_layers"] = num_layers
    if kind.takes_conditioning:
        way, its_values = part(
            "conditioning",
            conditioning,
            feature_shape=FEATURES,
            embedding_dim=values["embedding_dim"],
            state_shape=StateShape.of(values["cell"], values["num_layers"], values["hidden_dim"]),
        )
        if "dropout" in its_values:
            its_values["dropout"] = dropout
        values["conditioning"] = way(**its_values)
    built = kind(**values)
    with torch.no_grad():  # larger than a fresh network's, so that captions differ
        for parameter in built.parameters():
            parameter.mul_(2.5)
    return built


def features(num_images: int, seed: int = 1) -> ImageFeatures:
    """Random features of `FEATURES`."""
    generator = torch.Generator().manual_seed(seed)
    return ImageFeatures(
        torch.randn(num_images, 6, 7, generator=generator),
        torch.randn(num_images, 5, generator=generator),
    )


def captions(num_images: int, num_captions: int, seed: int = 2) -> Tensor:
    """Random captions of 1 to 6 words; the last image lacks its last caption."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((num_images, num_captions, 9), PAD_ID)
    for i, j in product(range(num_images), range(num_captions)):
        if (i, j) == (num_images - 1, num_captions - 1) and num_captions > 1:
            continue
        length = int(torch.randint(1, 7, (), generator=generator))
        words = torch.randint(4, 11, (length,), generator=generator)
        tokens[i, j, : length + 2] = torch.cat(
            [torch.tensor([START_ID]), words, torch.tensor([END_ID])]
        )
    return tokens


def assert_same(captions: list[Hypothesis], others: list[Hypothesis], atol: float = 1e-5) -> None:
    """The same words, and probabilities equal but for rounding, which differs between batches."""
    assert [one.tokens for one in captions] == [one.tokens for one in others]
    assert [one.finished for one in captions] == [one.finished for one in others]
    for name in ("log_probability", "score"):
        numbers = [torch.tensor([getattr(c, name) for c in each]) for each in (captions, others)]
        torch.testing.assert_close(*numbers, atol=atol, rtol=0)
