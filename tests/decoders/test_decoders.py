"""What is particular to each conditioning, to the Transformer and to word vectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captionlab.decoders import (
    AttentionConditioning,
    Conditioning,
    DecoderState,
    DotAttentionConditioning,
)
from captionlab.decoders.cells import StateShape
from captionlab.errors import ConfigError
from captionlab.types import END_ID, PAD_ID, START_ID, ImageFeatures
from tests.support.decoders import FEATURES, MakeDecoder, features
from tests.support.decoders import WORDS as WORD_LIST

E, H, V, G, C = 6, 8, 11, 5, 7  # sizes of `make_decoder`
LSTM = 4 * (E * H + H * H + 2 * H)
WORDS = V * E  # the embedding


def output(dim: int) -> int:
    return (dim + 1) * V


@pytest.mark.parametrize(
    ("conditioning", "expected"),
    [
        ("pre_inject", WORDS + LSTM + output(H) + (G + 1) * E),
        ("init_inject", WORDS + LSTM + output(H) + (G + 1) * 2 * H),
        ("par_inject", WORDS + LSTM + 4 * H * 3 + output(H) + (G + 1) * 3),
        ("par_inject_first", WORDS + LSTM + 4 * H * 3 + output(H) + (G + 1) * 3),
        ("merge", WORDS + LSTM + output(H) + (G + 1) * H + (H + 1) * H),
        ("merge_concatenate", WORDS + LSTM + output(2 * H) + (G + 1) * H),
        (
            "attention",  # map, key, energy, query, gate, initial state, context
            WORDS + LSTM + output(H)
            + (C + 1) * 4 + (4 + 1) * 3 + 3 + (H + 1) * 3 + (H + 1) * 4 + (4 + 1) * 2 * H
            + 4 * H * 4,
        ),
        (
            "dot_attention",  # map, key, query, initial state, context
            WORDS + LSTM + output(H)
            + (C + 1) * 4 + (4 + 1) * 6 + (H + 1) * 6 + (4 + 1) * 2 * H
            + 4 * H * 4,
        ),
    ],
)  # fmt: skip
def test_parameters_are_those_of_the_papers(
    make_decoder: MakeDecoder, conditioning: str, expected: int
) -> None:
    assert count(make_decoder("lstm", conditioning)) == expected


def count(decoder: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in decoder.parameters())


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_a_second_layer_reads_the_first(make_decoder: MakeDecoder, cell: str, gates: int) -> None:
    one, two = (make_decoder(cell, "merge", layers) for layers in (1, 2))
    assert count(two) - count(one) == gates * (2 * H * H + 2 * H)


def test_a_transformer_has_the_parameters_of_the_paper(make_decoder: MakeDecoder) -> None:
    attention = 4 * (H + 1) * H
    layer = 2 * attention + (H + 1) * 2 * H + (2 * H + 1) * H + 3 * 2 * H
    around = WORDS + (E + 1) * H + (C + 1) * H + 2 * H + output(H)
    for num_layers in (1, 2):
        assert (
            count(make_decoder("transformer", "built_in", num_layers))
            == around + num_layers * layer
        )
    learned = make_decoder("transformer_learned", "built_in", 1)
    assert count(learned) == around + layer + 8 * H


def rows_agree(state: DecoderState) -> bool:
    """Whether two rows have one state, but for rounding: kernels may treat the last rows apart."""
    return all(torch.allclose(part[:, 0], part[:, 1], atol=1e-6) for part in state.memory)


@pytest.mark.parametrize("conditioning", ["merge", "merge_concatenate"])
def test_merge_keeps_the_image_out_of_the_recurrent_state(
    make_decoder: MakeDecoder, conditioning: str
) -> None:
    decoder = make_decoder("gru", conditioning).eval()
    with torch.inference_mode():
        log_probs, after = decoder.step(torch.tensor([START_ID] * 2), decoder.start(features(2)))
    assert rows_agree(after)
    assert not torch.allclose(log_probs[0], log_probs[1])


def test_the_image_is_injected_at_the_first_step_alone_or_at_each(
    make_decoder: MakeDecoder,
) -> None:
    for conditioning, is_read in (("par_inject", True), ("par_inject_first", False)):
        decoder = make_decoder("rnn", conditioning).eval()
        with torch.inference_mode():
            state = decoder.start(features(2))
            assert rows_agree(state)
            for token, reads in ((START_ID, True), (5, is_read)):
                blank = type(state)(state.image, tuple(m[:, [0, 0]] for m in state.memory))
                _, after = decoder.step(torch.tensor([token] * 2), blank)
                assert rows_agree(after) != reads


@pytest.mark.parametrize("conditioning", ["init_inject", "pre_inject"])
def test_the_first_state_knows_the_image(make_decoder: MakeDecoder, conditioning: str) -> None:
    decoder = make_decoder("lstm", conditioning).eval()
    with torch.inference_mode():
        state = decoder.start(features(2))
    for part in state.memory:
        assert not torch.allclose(part[:, 0], part[:, 1], atol=1e-2)


def test_one_head_is_dot_product_attention_by_hand(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder("gru", "dot_attention").eval()
    part = decoder.conditioning
    part.num_heads = 1
    with torch.inference_mode():
        image = part.prepare(features(2))
        hidden = torch.randn(2, 3, H)
        context, attention = part.attend(hidden, image)
        positions = part.project(features(2).grid)
        weights = (part.query(hidden) @ part.key(positions).mT / 6**0.5).softmax(-1)
    torch.testing.assert_close(context, weights @ positions)
    torch.testing.assert_close(attention, weights)


@pytest.mark.parametrize("kind", [AttentionConditioning, DotAttentionConditioning])
def test_without_a_map_the_values_are_the_standardised_grid(kind: type[Conditioning]) -> None:
    heads = {"num_heads": 1} if kind is DotAttentionConditioning else {}
    sizes = {"feature_dim": None, "attention_dim": 6, "dropout": 0.0}
    part = kind(FEATURES, E, StateShape.of("gru", 1, H), **sizes, **heads)
    grid = features(2).grid
    values = part.prepare(features(2)).values.view_as(grid)
    flat = grid.flatten(0, 1)
    expected = (flat - flat.mean(0)) / (flat.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(values.flatten(0, 1), expected)
    context, weights = part.attend(torch.randn(2, 3, H), part.prepare(features(2)))
    assert context.shape == (2, 3, part.context_dim) == (2, 3, C)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"must divide the encoder's 7 channels .* found 2"):
        DotAttentionConditioning(FEATURES, E, StateShape.of("gru", 1, H), None, 6, 2, 0.0)


def test_words_later_than_the_learned_positions_share_the_last(make_decoder: MakeDecoder) -> None:
    decoder = make_decoder("transformer_learned", "built_in", 1).eval()
    with torch.inference_mode():
        encoded = decoder._encode(torch.arange(10))
    assert not torch.equal(encoded[6], encoded[7])
    assert torch.equal(encoded[7], encoded[9])


def test_sinusoidal_positions_are_those_of_the_paper(make_decoder: MakeDecoder) -> None:
    encoded = make_decoder("transformer", "built_in", 1)._encode(torch.arange(4))
    for position, i in ((0, 0), (3, 1), (2, 3)):
        angle = torch.tensor(position / 10_000 ** (2 * i / H))
        assert float(encoded[position, 2 * i]) == pytest.approx(float(angle.sin()), abs=1e-6)
        assert float(encoded[position, 2 * i + 1]) == pytest.approx(float(angle.cos()), abs=1e-6)


TOKENS = torch.tensor([[[START_ID, 5, 6, END_ID, PAD_ID]], [[START_ID, 7, END_ID, PAD_ID, PAD_ID]]])
KINDS = [("lstm", "merge"), ("lstm", "merge_concatenate"), ("transformer", "built_in")]


def gradients(decoder: torch.nn.Module, images: ImageFeatures) -> None:
    logits, targets, *_ = decoder(images, TOKENS)
    torch.nn.functional.cross_entropy(logits, targets).backward()


@pytest.mark.parametrize(("cell", "conditioning"), KINDS)
def test_tied_words_are_one_table(make_decoder: MakeDecoder, cell: str, conditioning: str) -> None:
    decoder = make_decoder(cell, conditioning, tie_embeddings=True)
    apart = make_decoder(cell, conditioning)
    read_dim = apart.vocabulary_layer.in_features
    assert count(apart) - count(decoder) == read_dim * V - read_dim * E  # less the map between
    gradients(decoder, features(2))
    assert decoder.vocabulary_layer.weight is decoder.embedding.weight
    assert bool((decoder.embedding.weight.grad[8:] != 0).any())  # words that were not read
    state = decoder.state_dict()
    other = make_decoder(cell, conditioning, tie_embeddings=True, seed=1)
    other.load_state_dict(state)
    assert other.vocabulary_layer.weight is other.embedding.weight


@pytest.mark.parametrize(("cell", "conditioning"), KINDS)
def test_frozen_words_get_no_gradient(
    make_decoder: MakeDecoder, cell: str, conditioning: str
) -> None:
    decoder = make_decoder(cell, conditioning, freeze_embeddings=True)
    gradients(decoder, features(2))
    assert decoder.embedding.weight.grad is None
    without = [name for name, weight in decoder.named_parameters() if weight.grad is None]
    assert without == ["embedding.weight"]


@pytest.mark.parametrize(("cell", "conditioning"), KINDS)
def test_words_of_a_file_start_from_its_vectors(
    make_decoder: MakeDecoder, cell: str, conditioning: str, tmp_path: Path
) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("c 1 2 3 4 5 6\nzebra 1 1 1 1 1 1\n")
    options = {"word_vectors": str(file), "vocabulary": WORD_LIST}
    plain = make_decoder(cell, conditioning)
    decoder = make_decoder(cell, conditioning, **options)
    row = WORD_LIST.encode(["c"])[1]
    expected = plain.embedding.weight.detach().clone()
    expected[row] = 2.5 * torch.arange(1.0, 7.0)  # `make_decoder` enlarges all weights
    torch.testing.assert_close(decoder.embedding.weight.detach(), expected)
    torch.testing.assert_close(
        decoder.vocabulary_layer.state_dict(), plain.vocabulary_layer.state_dict()
    )
    with pytest.raises(ValueError, match="needs the vocabulary"):
        make_decoder(cell, conditioning, word_vectors=str(file))
