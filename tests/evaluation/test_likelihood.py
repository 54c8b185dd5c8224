"""Which image a caption is likeliest for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from captionlab.evaluation import likelihood
from captionlab.types import PAD_ID, ImageFeatures

NUM_IMAGES = 20


class FakeCaptioner:
    """Stands for a captioner whose features of an image are its number."""

    vocabulary = SimpleNamespace(encode=lambda words: [1, *map(len, words), 2])
    source = SimpleNamespace(device=torch.device("cpu"))
    decoder = None

    def autocast(self) -> nullcontext[None]:
        return nullcontext()

    def features(
        self, doing: str, corpus: Any, image_ids: list[str], batch_size: int = 2
    ) -> Iterator[tuple[list[str], ImageFeatures]]:
        for begin in range(0, len(image_ids), batch_size):
            batch = image_ids[begin : begin + batch_size]
            numbers = torch.tensor([[float(image)] for image in batch])
            yield batch, ImageFeatures(numbers.unsqueeze(1), numbers)


def recalls(
    model: Callable[[Tensor, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> dict[str, float]:
    """Of a model that gives captions (N,) a likelihood (B, N) by the images' numbers (B, 1)."""

    def log_probabilities(decoder: None, features: ImageFeatures, tokens: Tensor) -> Any:
        return model(features.pooled, torch.arange(tokens.shape[1])), None

    monkeypatch.setattr(likelihood, "caption_log_probabilities", log_probabilities)
    images = [SimpleNamespace(image_id=str(i), captions=["a dog"]) for i in range(NUM_IMAGES)]
    corpus = SimpleNamespace(splits={"test": images})
    captioner: Any = FakeCaptioner()
    return likelihood.retrieval(captioner, str.split, corpus, "test", NUM_IMAGES)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-5.0, float("nan")])
def test_a_model_blind_to_its_images_finds_them_by_chance(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = recalls(lambda images, captions: torch.full((len(images), 20), value), monkeypatch)
    assert found == pytest.approx({f"recall_at_{k}": k / NUM_IMAGES for k in (1, 5, 10)})


@pytest.mark.parametrize("num_words", [2, 50])
def test_the_perplexity_of_chance_is_the_number_of_words(
    num_words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end counts as a word, the start does not, and a long caption counts for more."""

    def log_probabilities(decoder: None, features: ImageFeatures, tokens: Tensor) -> Any:
        counts = (tokens[..., 1:] != PAD_ID).sum(-1)
        return -math.log(num_words) * counts, counts

    monkeypatch.setattr(likelihood, "caption_log_probabilities", log_probabilities)
    texts = ["a", "a dog runs", "a dog"]
    images = [SimpleNamespace(image_id=str(i), captions=[text]) for i, text in enumerate(texts)]
    captioner: Any = FakeCaptioner()
    corpus: Any = SimpleNamespace(splits={"test": images})
    found = likelihood.perplexity(captioner, str.split, corpus, "test")  # type: ignore[arg-type]
    assert found == pytest.approx(num_words)


def test_the_likeliest_image_is_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    found = recalls(lambda images, captions: -(images - captions).abs(), monkeypatch)
    assert set(found.values()) == {1.0}


def test_two_likelier_images_cost_a_caption_the_first_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = recalls(lambda images, captions: -((images - captions - 2) % 20), monkeypatch)
    assert found == {"recall_at_1": 0.0, "recall_at_5": 0.0, "recall_at_10": 0.0}
    found = recalls(lambda images, captions: -((captions - images + 2) % 20), monkeypatch)
    assert found == {"recall_at_1": 0.0, "recall_at_5": 1.0, "recall_at_10": 1.0}
