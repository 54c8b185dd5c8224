"""Captions that are rewarded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from torch import Tensor, nn

from captionlab.decoders import Decoder, DecoderState, PreparedImage, TeacherForced
from captionlab.objectives import CaptionReward, SelfCritical
from captionlab.text import Vocabulary
from captionlab.types import END_ID, CaptionBatch, ImageFeatures
from tests.support.decoders import MakeDecoder, features

WORDS = Vocabulary(["<pad>", "<start>", "<end>", "<unk>", "a", "red", "dog", "runs"])
REFERENCES = {"x": ["a red dog", "a dog runs"], "y": ["a dog", "red"], "z": ["runs", "a red a"]}


def objective(baseline: str = "greedy", num_samples: int = 3, **others: object) -> SelfCritical:
    arguments = {"max_length": 4, "temperature": 1.0, "bleu_weight": 0.0, **others}
    return SelfCritical(
        vocabulary=WORDS,
        references=REFERENCES,
        baseline=baseline,  # type: ignore[arg-type]
        num_samples=num_samples,
        **arguments,  # type: ignore[arg-type]
    )


class Urn(Decoder):
    """Draws every word from the same distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.3, -1.0, 0.1, 0.8, 0.0, 0.5, -0.4, 0.2]))

    def forward(self, features: ImageFeatures, tokens: Tensor) -> TeacherForced:
        is_word = tokens[:, :, 1:].flatten(0, 1) != 0
        targets = tokens[:, :, 1:].flatten(0, 1)[is_word]
        captions = is_word.nonzero()[:, 0]
        return TeacherForced(self.logits.expand(len(targets), -1), targets, captions)

    def start(self, features: ImageFeatures) -> DecoderState:
        return DecoderState(PreparedImage(), (features.pooled[None],))

    def step(self, token_R: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        return self.logits.expand(len(token_R), -1).log_softmax(-1), state


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_words_that_are_never_drawn_may_have_all_of_the_probability(dtype: torch.dtype) -> None:
    """In float32, 1 less their probability is then 0, whose logarithm is not finite."""
    urn, critic = Urn(), objective()
    with torch.no_grad():
        urn.logits[3] = 60.0  # the unknown word
    urn.to(dtype)
    images = features(2)
    drawn = critic._draw(urn, images)
    log_probs, _ = critic._log_probabilities(urn, images, drawn)
    allowed = [2, 4, 5, 6, 7]
    share = dict(zip(allowed, urn.logits[allowed].float().log_softmax(-1).tolist(), strict=True))
    words = [[*h.tokens, *([END_ID] if h.finished else [])] for three in drawn for h in three]
    expected = torch.tensor([share[word] for caption in words for word in caption])
    torch.testing.assert_close(log_probs, expected, rtol=1e-6, atol=1e-6)
    log_probs.sum().backward()
    assert urn.logits.grad is not None
    assert torch.isfinite(urn.logits.grad).all()
    assert urn.logits.grad[[0, 1, 3]].abs().max() == 0


@pytest.mark.parametrize(
    ("baseline", "temperature"), [("greedy", 1.0), ("samples", 1.0), ("samples", 0.5)]
)
def test_the_gradient_is_that_computed_by_hand(baseline: str, temperature: float) -> None:
    calls: list[tuple[list[str], list[str], list[bool]]] = []

    def reward(
        images: Sequence[str], texts: Sequence[str], finished: Sequence[bool]
    ) -> list[float]:
        calls.append((list(images), list(texts), list(finished)))
        return [0.5 * i * i for i in range(len(texts))]

    torch.manual_seed(0)
    urn, critic = Urn().train(), objective(baseline, temperature=temperature)
    critic.reward = reward  # type: ignore[assignment]
    loss, extra = critic(urn, CaptionBatch(("x", "y"), features(2), torch.zeros(2, 0, 0)), 0.0)
    loss.backward()
    assert urn.training

    ((images, texts, finished),) = calls
    rewards = [0.5 * i * i for i in range(len(texts))]
    if baseline == "greedy":
        assert images == ["x"] * 3 + ["y"] * 3 + ["x", "y"]
        assert texts[6:] == ["red red red red"] * 2, "the likeliest word that may be written"
        advantages = [r - rewards[6 + i // 3] for i, r in enumerate(rewards[:6])]
    else:
        assert images == ["x"] * 3 + ["y"] * 3
        advantages = [
            r - (sum(rewards[i // 3 * 3 : i // 3 * 3 + 3]) - r) / 2 for i, r in enumerate(rewards)
        ]
    allowed = torch.tensor([END_ID, 4, 5, 6, 7])
    chance = torch.zeros(8)
    chance[allowed] = (urn.logits.detach()[allowed] / temperature).softmax(-1)
    expected, count = torch.zeros(8), 0
    for text, ended, advantage in zip(texts, finished, advantages, strict=False):
        drawn = WORDS.encode(text.split())[1 : None if ended else -1]
        count += len(drawn)
        for word in drawn:
            expected -= advantage * (nn.functional.one_hot(torch.tensor(word), 8) - chance)
    assert urn.logits.grad is not None
    torch.testing.assert_close(urn.logits.grad, expected / count / temperature)
    assert extra["reward"] == pytest.approx(sum(rewards[:6]) / 6)


def test_the_reward_of_a_mirrored_photo_is_that_of_the_words_mirrored() -> None:
    rewarded: list[list[str]] = []

    def reward(
        images: Sequence[str], texts: Sequence[str], finished: Sequence[bool]
    ) -> list[float]:
        rewarded.append(list(texts))
        return [0.0] * len(texts)

    sides = Vocabulary(["<pad>", "<start>", "<end>", "<unk>", "left", "right", "red", "dog"])
    for mirrored in (frozenset[str](), frozenset({"y"})):
        torch.manual_seed(0)
        critic = objective("samples")
        critic.vocabulary, critic.reward = sides, reward  # type: ignore[assignment]
        images = features(2)
        critic(Urn(), CaptionBatch(("x", "y"), images, torch.zeros(2, 0, 0), mirrored), 0.0)
    plain, swapped = rewarded
    assert swapped[:3] == plain[:3]
    other = {"left": "right", "right": "left"}
    assert swapped[3:] == [
        " ".join(other.get(word, word) for word in text.split(" ")) for text in plain[3:]
    ]
    assert swapped != plain


def random_captions(seed: int) -> tuple[dict[str, list[str]], list[dict[str, str]]]:
    rng = random.Random(seed)

    def caption() -> str:
        return " ".join(rng.choices(["a", "red", "dog", "runs", "fast", "ü"], k=rng.randint(1, 9)))

    references = {str(i): [caption() for _ in range(rng.randint(1, 5))] for i in range(30)}
    return references, [{image: caption() for image in references} for _ in range(3)]


def test_the_reward_is_that_of_pycocoevalcap_with_the_end_as_a_word() -> None:
    references, systems = random_captions(0)
    ended = {i: [f"{text} <end>" for text in texts] for i, texts in references.items()}
    images, texts, finished, expected = [], [], [], []
    for k, system in enumerate(systems):
        tail = "" if k == 2 else " <end>"  # the last system never finishes
        written = {i: [text + tail] for i, text in system.items()}
        _, cider = Cider().compute_score(ended, written)
        _, bleu = Bleu(4).compute_score(ended, written, verbose=0)
        images += list(system)
        texts += list(system.values())
        finished += [k < 2] * len(system)
        expected += [float(c) + 0.7 * b for c, b in zip(cider, bleu[3], strict=True)]
    reward = CaptionReward(references, bleu_weight=0.7)
    assert reward(images, texts, finished) == expected
    batch = random.Random(1).sample(range(len(texts)), 25)  # some images, some of them twice
    chosen = ([values[i] for i in batch] for values in (images, texts, finished))
    assert reward(*chosen) == [expected[i] for i in batch]


def test_a_caption_that_stops_early_is_worth_less() -> None:
    reward = CaptionReward(REFERENCES, 0.0)
    whole, unfinished, cut = reward(
        ["x"] * 3, ["a red dog", "a red dog", "a red"], [True, False, True]
    )
    assert whole > unfinished
    assert whole > cut


@pytest.mark.parametrize("baseline", ["greedy", "samples"])
def test_training_raises_the_reward(make_decoder: MakeDecoder, baseline: str) -> None:
    torch.manual_seed(0)
    decoder = make_decoder("gru", "pre_inject", vocabulary_size=8).train()
    critic = objective(baseline, num_samples=8, bleu_weight=0.5)
    batch = CaptionBatch(("x", "y", "z"), features(3), torch.zeros(3, 0, 0))
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.03)
    rewards = []
    for _ in range(60):
        loss, extra = critic(decoder, batch, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(extra["reward"])
    assert sum(rewards[-5:]) / 5 > 1.5 * sum(rewards[:5]) / 5


def test_captions_are_drawn_without_dropout_and_learnt_with_it(
    make_decoder: MakeDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = make_decoder("gru", "init_inject", vocabulary_size=8).train()
    critic, drawing, learning = objective(), list[bool](), list[bool]()
    draw, log_probabilities = critic._draw, critic._log_probabilities

    def observed_draw(*given: Any) -> Any:
        drawing.append(decoder.training)
        return draw(*given)

    def observed_log_probabilities(*given: Any) -> Any:
        learning.append(decoder.training)
        return log_probabilities(*given)

    monkeypatch.setattr(critic, "_draw", observed_draw)
    monkeypatch.setattr(critic, "_log_probabilities", observed_log_probabilities)
    critic(decoder, CaptionBatch(("x", "y", "z"), features(3), torch.zeros(3, 0, 0)), 0.0)
    assert (drawing, learning) == ([False], [True])


def test_other_captions_are_drawn_every_time() -> None:
    critic = objective(num_samples=20)
    first, second = (critic._draw(Urn(), features(2)) for _ in range(2))
    assert first != second


def test_it_trains_under_autocast(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder(vocabulary_size=8).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = objective()(
            decoder, CaptionBatch(("x", "y", "z"), features(3), torch.zeros(3, 0, 0)), 0.0
        )
    loss.backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_a_baseline_of_samples_takes_more_than_one() -> None:
    with pytest.raises(ValueError, match=r"num_samples must be at least 2 .* found 1"):
        objective("samples", num_samples=1)
