"""One caption per image is scored, beside other people's captions and other images'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.errors import DataError
from captionlab.evaluation.evaluate import score_written
from captionlab.evaluation.request import Request, WrittenCaptions
from captionlab.evaluation.scoring import NUM_SHUFFLES, clean, score_captions
from captionlab.metrics import CaptionScorer, java, registry
from captionlab.metrics.protocol import Scores
from captionlab.text import PTBTokenizer, Tokenizer
from captionlab.text.tokenizers import CleanedTokenizer

CIDER = registry.RANKING + registry.PYTHON_SUFFIX
PYTHON = Request(tokenizer="python")


def by_people(corpus: CaptionCorpus) -> dict[str, str]:
    return {image: texts[0] for image, texts in corpus.references("test").items()}


def test_scores_on_pythons_tokens_never_bear_an_official_name(shapes: CaptionCorpus) -> None:
    result, predictions = score_captions(
        shapes, "test", by_people(shapes), truth=lambda captions: {"all": 1.0}, seed=0,
        tokenizer="python",
    )  # fmt: skip
    for names in (result.scores, result.blind, result.human, predictions[0].scores):
        assert names
        assert all(name.endswith(registry.PYTHON_SUFFIX) for name in names)
    assert result.missing == {"meteor": "it needs the tokenizer 'stanford'"}
    assert result.truth == {"all": 1.0}
    assert [p.image_id for p in predictions] == list(shapes.references("test"))


def test_the_same_captions_on_other_images_are_worth_less(shapes: CaptionCorpus) -> None:
    captions = by_people(shapes)
    results = [
        score_captions(shapes, "test", captions, truth=dict, seed=seed, tokenizer="python")[0]
        for seed in (0, 0, 1)
    ]
    assert results[0] == results[1]
    assert results[0].blind != results[2].blind
    assert results[0].blind[CIDER] < results[0].human[CIDER] < results[0].scores[CIDER]


def test_no_image_keeps_its_caption_in_the_blind_score(
    shapes: CaptionCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[dict[str, str]] = []
    score = CaptionScorer.score

    def observed(
        scorer: CaptionScorer, captions: Mapping[str, str], metrics: Sequence[str] | None = None
    ) -> Scores:
        scored.append(dict(captions))
        return score(scorer, captions, metrics)

    monkeypatch.setattr(CaptionScorer, "score", observed)
    captions = {image: f"a dog {i}" for i, image in enumerate(shapes.references("test"))}
    score_captions(shapes, "test", captions, truth=lambda _: {}, seed=0, tokenizer="python")
    own, *others = scored
    assert own == captions
    assert len(others) == NUM_SHUFFLES
    for shuffled in others:
        assert sorted(shuffled.values()) == sorted(own.values())
        assert not any(shuffled[image] == own[image] for image in own)


@pytest.mark.parametrize("tokenizer", [PTBTokenizer(), CleanedTokenizer()])
def test_a_copied_training_caption_is_not_novel_whatever_the_tokenizer(
    tokenizer: Tokenizer, shapes: CaptionCorpus
) -> None:
    images = shapes.splits["train"]
    caption = "A dog's T-shirt, 2 men."
    training = [replace(images[0], captions=(caption,)), *images[1:]]
    corpus = replace(shapes, splits={**shapes.splits, "train": training})
    written = dict.fromkeys(corpus.references("test"), " ".join(tokenizer(caption)))

    def novel(caption_tokenizer: Tokenizer | None) -> float:
        result, _ = score_captions(
            corpus, "test", written, truth=lambda captions: {}, seed=0, tokenizer="python",
            caption_tokenizer=caption_tokenizer,
        )  # fmt: skip
        return result.language["novel_captions"]

    assert novel(tokenizer) == 0
    assert novel(None) == isinstance(tokenizer, CleanedTokenizer), "a file's words are as they are"


def test_a_missing_caption_is_an_error_unless_a_part_is_asked_for(shapes: CaptionCorpus) -> None:
    captions = dict(list(by_people(shapes).items())[:5])
    written = WrittenCaptions(shapes, {image: [text] for image, text in captions.items()})
    with pytest.raises(DataError, match="3 of 8 images have no caption"):
        score_written("some", written, PYTHON)
    part = score_written("some", written, Request(tokenizer="python", subset=True))
    assert part.data == f"{shapes.name}-test-subset-5"
    assert part.result.num_images == len(part.predictions) == 5


def test_several_captions_of_an_image_tell_how_much_they_differ(shapes: CaptionCorpus) -> None:
    references = shapes.references("test")
    varied = WrittenCaptions(shapes, {image: texts[:3] for image, texts in references.items()})
    equal = WrittenCaptions(shapes, {image: [t[0]] * 3 for image, t in references.items()})
    languages = [score_written("x", w, PYTHON).result.language for w in (varied, equal)]
    assert languages[0]["samples"] == 3
    assert languages[0]["mbleu_4"] < languages[1]["mbleu_4"]
    assert languages[0]["self_cider"] > languages[1]["self_cider"]
    assert languages[1]["self_cider"] == pytest.approx(0.0, abs=1e-6)


def test_a_metric_with_jars_is_computed_where_a_folder_is_named(
    shapes: CaptionCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(java.MeteorProcess, "score", lambda *_: (0.5, [0.5] * 8, [[0.0] * 23] * 8))
    written = WrittenCaptions(shapes, {i: [text] for i, text in by_people(shapes).items()})
    without = score_written("x", written, Request()).result
    assert "spice" not in without.scores.keys() | without.missing.keys()
    asked = score_written("x", written, Request(jar_folder=shapes.images[0].path.parent)).result
    assert "SPICE needs stanford-corenlp-3.6.0.jar" in asked.missing["spice"]
    assert asked.scores == without.scores


def test_cleaned_references_are_scored_under_names_of_their_own(shapes: CaptionCorpus) -> None:
    assert clean("A dog's T-shirt, in red.") == "a dogs t shirt in red"
    written = WrittenCaptions(shapes, {i: [text] for i, text in by_people(shapes).items()})
    cleaned = score_written("x", written, Request(tokenizer="python", cleaned=True))
    official = score_written("x", written, PYTHON)
    assert cleaned.data == f"{official.data}-cleaned"
    for names in (cleaned.result.scores, cleaned.result.blind, cleaned.predictions[0].scores):
        assert names
        assert all(name.endswith("_pyptb_cleaned") for name in names)
    assert [p.caption for p in cleaned.predictions] == [p.caption for p in official.predictions]
    assert registry.is_ranking("cider_d_pyptb_cleaned")
    assert registry.find_score("cider_d_cleaned").title == "CIDEr-D (cleaned)"
