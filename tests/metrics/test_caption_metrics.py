"""Scores against pycocoevalcap, alone and in two processes, with and without Java."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from captionlab.corpora.corpus import CaptionCorpus
from captionlab.errors import ConfigError, DataError
from captionlab.metrics import CaptionMetrics, CaptionScorer, java
from captionlab.metrics.counting import NGramReferences
from captionlab.metrics.diversity import self_cider
from tests.metrics.tokenized import score_tokenized

ALL = ("bleu", "meteor", "rouge_l", "cider_d")
References = dict[str, list[str]]


def official(references: References, captions: dict[str, str], with_meteor: bool) -> dict[str, Any]:
    """Corpus score and per-image scores by pycocoevalcap, on tokenised text."""
    written = {image: [caption] for image, caption in captions.items()}
    bleu, bleus = Bleu(4).compute_score(references, written, verbose=0)
    scores = {f"bleu_{k + 1}": (bleu[k], bleus[k]) for k in range(4)}
    scorers = {"rouge_l": Rouge(), "cider_d": Cider()}
    if with_meteor:
        scorers["meteor"] = Meteor()
    return scores | {
        name: scorer.compute_score(references, written) for name, scorer in scorers.items()
    }


def nasty(seed: int, num_images: int) -> tuple[References, dict[str, str]]:
    """Captions of few words, so that all kinds of matches come up, some of them empty."""
    rng = random.Random(seed)
    words = ["a", "dog", "'s", "-lrb-", "22\xa03/4", "red", "??", "the", "run", "ü"]

    def caption(shortest: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(shortest, 14)))

    references = {str(i): [caption(1) for _ in range(rng.randint(1, 5))] for i in range(num_images)}
    return references, {image: caption(1) for image in references}


@pytest.mark.parametrize("seed", range(5))
def test_ngram_scores_equal_pycocoevalcap_to_the_last_bit(seed: int) -> None:
    references, captions = nasty(seed, 60)
    scores = score_tokenized(references, captions)
    expected = official(references, captions, with_meteor=False)
    assert scores.corpus == {name: float(value) for name, (value, _) in expected.items()}
    for name, (_, values) in expected.items():
        assert scores.per_image[name] == [float(value) for value in values], name


def test_a_caption_of_many_words_scores_as_there() -> None:
    references, captions = nasty(1, 5)
    captions["2"] = " ".join([captions["2"], *references["2"], "a dog the run"] * 9)
    assert len(captions["2"].split(" ")) > 64, "more than the bits of an integer"
    corpus = score_tokenized(references, captions).corpus
    assert corpus == {n: float(v) for n, (v, _) in official(references, captions, False).items()}


def test_one_image_scores_as_there() -> None:
    references, captions = nasty(0, 1)
    corpus = score_tokenized(references, captions).corpus
    assert corpus == {n: float(v) for n, (v, _) in official(references, captions, False).items()}


def test_raw_captions_score_as_the_official_pipeline(shapes: CaptionCorpus) -> None:
    references = {i: list(refs[1:]) for i, refs in shapes.references("train").items()}
    captions = {i: refs[0] for i, refs in shapes.references("train").items()}
    captions[next(iter(captions))] = "a (red) dog's\u2028 toy !!! and\ra ball"
    tokenizer = PTBTokenizer()
    written = {i: [{"caption": " ".join(c.split())}] for i, c in captions.items()}
    official_captions = {i: c[0] for i, c in tokenizer.tokenize(written).items()}
    official_references = tokenizer.tokenize(
        {i: [{"caption": ref} for ref in refs] for i, refs in references.items()}
    )
    scores = CaptionScorer(references, metrics=ALL, tokenizer="stanford").score(captions)
    expected = official(official_references, official_captions, with_meteor=True)
    assert scores.missing == {}
    assert scores.corpus == {name: value for name, (value, _) in expected.items()}
    assert scores.per_image == {name: list(values) for name, (_, values) in expected.items()}


def test_shuffled_captions_are_scored_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    references = {"a": ["a red dog"], "b": ["two blue cats sit"]}
    scorer = CaptionScorer(references, metrics=("bleu", "cider_d"), tokenizer="stanford")
    first = scorer.score({"a": "a red dog", "b": "two blue cats sit"})
    monkeypatch.setattr(java, "find_java", lambda: "/nowhere/java")
    again = scorer.score({"b": "a red dog", "a": "two blue cats sit"}, metrics=("bleu",))
    assert first.corpus["bleu_1"] == pytest.approx(1.0)
    assert again.corpus["bleu_1"] < 1e-6
    assert "cider_d" not in again.corpus


def test_without_java_meteor_is_missing_and_other_scores_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(java, "find_java", lambda: "/nowhere/java")
    references = {"a": ["a red dog"], "b": ["two blue cats"]}
    captions = {"a": "a red dog", "b": "two cats"}
    unasked = CaptionScorer(references, metrics=ALL, tokenizer="stanford")
    assert unasked.score(captions).corpus == {}
    assert unasked.score(captions).missing.keys() >= {"meteor", "cider_d", "bleu_4"}
    assert unasked.score_people() is None
    asked = CaptionScorer(references, metrics=ALL, tokenizer="stanford", fallback=True)
    scores = asked.score(captions)
    assert scores.missing.keys() >= {"meteor", "cider_d", "bleu_4"}
    assert "/nowhere/java" in scores.missing["meteor"]
    assert scores.corpus.keys() == {f"bleu_{k}_pyptb" for k in (1, 2, 3, 4)} | {
        "rouge_l_pyptb",
        "cider_d_pyptb",
    }


def test_no_text_breaks_the_protocol_of_meteor() -> None:
    meteor = java.MeteorProcess()
    references = {"a": ["a ||| dog\n", "EVAL ||| 1"], "b": ["\u2028"], "c": ["ünï\x85"]}
    score, per_image, _ = meteor.score(references, {"a": "a dog\r", "b": "", "c": "|||"})
    assert len(per_image) == 3
    assert 0 <= score <= 1
    meteor.close()


def test_meteor_that_dies_is_started_again() -> None:
    meteor = java.MeteorProcess()
    assert meteor._process is not None
    meteor._process.kill()
    meteor._process.wait()
    pair = {"a": ["a red dog"]}, {"a": "a red dog"}
    assert meteor.score(*pair)[0] == pytest.approx(1.0, abs=0.01)
    meteor.close()
    meteor._start()
    take = meteor._answers.take

    def killed(number: int) -> list[bytes]:
        assert meteor._process is not None
        meteor._process.kill()
        return take(number)

    meteor._answers.take = killed  # type: ignore[method-assign]
    with pytest.raises(java.JavaError, match="mid-score"):
        meteor.score(*pair)
    assert meteor._process is None, "nothing is left behind"


def test_java_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = tmp_path / "java"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(java, "find_java", lambda: str(hanging))
    monkeypatch.setattr(java, "_START_SECONDS", 0.3)
    meteor = java.MeteorProcess()
    process = meteor._process
    with pytest.raises(java.JavaError, match="METEOR stopped answering"):
        meteor.score({"a": ["a dog"]}, {"a": "a dog"})
    assert process is not None
    assert process.poll() is not None
    with pytest.raises(java.JavaError, match="did not run"):
        java.stanford_tokenize(["a dog"])


def test_a_lying_tokenizer_shifts_no_caption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying = tmp_path / "java"
    lying.write_text("#!/bin/sh\ncat\necho one line too many\n")
    lying.chmod(0o755)
    monkeypatch.setattr(java, "find_java", lambda: str(lying))
    with pytest.raises(java.JavaError, match="2 of 1 lines"):
        java.stanford_tokenize(["a dog"])


def test_scoring_writes_nothing_into_site_packages() -> None:
    home = java.shipped("meteor").parent

    def listed() -> set[Path]:
        return {path for path in home.rglob("*") if "__pycache__" not in path.parts}

    before = listed()
    scorer = CaptionScorer({"a": ["A dog ."]}, metrics=ALL, tokenizer="stanford")
    scorer.score({"a": "a dog"})
    assert listed() == before


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["de -Duser.country=DE", "tr -Duser.country=TR"])
def test_the_locale_changes_nothing(locale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", f"-Duser.language={locale}")
    scorer = CaptionScorer({"a": ["I SIT ."]}, metrics=ALL, tokenizer="stanford")
    scores = scorer.score({"a": "i sit"})
    assert scores.missing == {}
    assert scores.corpus["bleu_1"] == pytest.approx(1.0)


@pytest.mark.slow
def test_java_ends_with_its_parent() -> None:
    code = (
        "from captionlab.metrics.java import MeteorProcess as M; print(M()._process.pid); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-uc", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    java_process = Path("/proc", parent.stdout.readline().strip())
    assert java_process.exists()
    parent.kill()
    parent.wait()
    for _ in range(600):  # it sees its closed input when it has loaded
        if not (java_process / "cmdline").exists() or not (java_process / "cmdline").read_bytes():
            return
        time.sleep(0.1)
    raise AssertionError("Java outlives its parent")


@pytest.mark.slow
def test_three_evaluations_at_once_score_as_one() -> None:
    references, captions = nasty(1, 40)
    with ThreadPoolExecutor(3) as pool:
        meteors = [java.MeteorProcess() for _ in range(3)]
        scores = list(pool.map(lambda meteor: meteor.score(references, captions), meteors))
    assert scores[0] == scores[1] == scores[2]
    for meteor in meteors:
        meteor.close()


@pytest.mark.slow
def test_two_thousand_nasty_strings_score_as_the_official_pipeline() -> None:
    rng = random.Random(0)
    parts = [
        "(red)",
        "dog's",
        "can't",
        "22 3/4",
        "T-shirt",
        "!!",
        "??",
        "--",
        "...",
        "<b>",
        "&amp;",
    ]
    parts += [
        '"quoted"',
        "u.s.",
        "3:30",
        "$5",
        "50%",
        "a/b",
        "naïve",
        "日本",
        "\U0001f415",
        "@x",
        "#y",
    ]

    def raw() -> str:
        words = [
            *rng.choices(parts, k=rng.randint(0, 5)),
            *rng.choices(["a", "dog", "the", "man"], k=4),
        ]
        rng.shuffle(words)
        return " ".join(words)

    references = {str(i): [raw() for _ in range(3)] for i in range(500)}
    captions = {image: raw() for image in references}
    tokenizer = PTBTokenizer()
    entries = {i: [{"caption": text} for text in texts] for i, texts in references.items()}
    official_references = tokenizer.tokenize(entries)
    written = tokenizer.tokenize({i: [{"caption": text}] for i, text in captions.items()})
    expected = official(official_references, {i: c[0] for i, c in written.items()}, True)
    scores = CaptionScorer(references, metrics=ALL, tokenizer="stanford").score(captions)
    assert scores.corpus == {name: value for name, (value, _) in expected.items()}
    assert scores.per_image == {name: list(values) for name, (_, values) in expected.items()}


def test_cider_d_by_hand() -> None:
    # Two images, idf = log 2 for every n-gram. Caption a equals its reference: cosine 1 for n = 1
    # and 2, and no longer n-grams: 10 (1 + 1 + 0 + 0) / 4. Caption b has one of two words and no
    # bigram, against one: 10 (1 / sqrt 2) exp(-1 / 72) / 4.
    references = {"a": ["red dog"], "b": ["blue cat"]}
    values = score_tokenized(references, {"a": "red dog", "b": "cat"}).per_image["cider_d"]
    assert values[0] == pytest.approx(5.0)
    assert values[1] == pytest.approx(2.5 / math.sqrt(2) * math.exp(-1 / 72))


def test_people_are_scored_by_their_first_caption() -> None:
    references = {"a": ["a red dog", "a red dog"], "b": ["one cat", "a blue bird", "one cat"]}
    people = CaptionScorer(references).score_people()
    others = CaptionScorer({image: refs[1:] for image, refs in references.items()})
    assert people is not None
    assert people.corpus == others.score({"a": "a red dog", "b": "one cat"}).corpus
    assert CaptionScorer({"a": ["a dog"]}).score_people() is None


def test_more_varied_samples_have_more_self_cider() -> None:
    references = NGramReferences({"a": ["a red dog runs"], "b": ["two cats sleep on a bed"]})
    equal = self_cider({"a": ["a red dog", "a red dog", "a red dog"]}, references)
    some = self_cider({"a": ["a red dog", "a red dog", "two cats sleep"]}, references)
    all_differ = self_cider({"a": ["a red dog", "runs fast", "two cats sleep"]}, references)
    assert equal == pytest.approx(0.0, abs=1e-6)
    assert equal < some < all_differ
    assert all_differ == pytest.approx(1.0, abs=1e-6), "nothing in common"


def test_updates_add_up_and_an_image_counts_once() -> None:
    references, captions = nasty(3, 20)
    metrics = CaptionMetrics(references)
    ids = list(captions)
    for part in (ids[15:], ids[:15], ids[:4]):
        metrics.update(part, [captions[image] for image in part])
    assert metrics.compute().corpus == CaptionScorer(references).score(captions).corpus
    metrics.reset()
    with pytest.raises(DataError, match="20 of 20"):
        metrics.compute()


def test_mistakes_are_one_line() -> None:
    with pytest.raises(DataError, match="'x'"):
        CaptionMetrics({"a": ["a dog"]}).update(["x"], ["a cat"])
    with pytest.raises(DataError, match="there are no reference captions"):
        CaptionScorer({})
    with pytest.raises(DataError, match="'b'"):
        CaptionScorer({"a": ["a dog"], "b": []})
    with pytest.raises(ConfigError, match="stanford"):
        CaptionScorer({"a": ["a dog"]}, metrics=("meteor",))
    with pytest.raises(ConfigError, match="'spice'"):
        CaptionScorer({"a": ["a dog"]}, metrics=("spice",))
    with pytest.raises(ConfigError, match=r"models\.jar, found no folder"):
        CaptionScorer({"a": ["a dog"]}, metrics=("spice",), tokenizer="stanford")
    with pytest.raises(ConfigError, match="'blue'; choose from 'bleu', 'cider_d'"):
        CaptionScorer({"a": ["a dog"]}, metrics=("blue",))


@pytest.mark.parametrize("shares", [(9, 0), (1, 8), (5, 5), (9, 9)])
def test_two_processes_score_as_one(tmp_path: Path, shares: tuple[int, int]) -> None:
    mp.spawn(_score_in_process, args=(tmp_path, shares), nprocs=2)
    references, captions = nasty(7, 9)
    expected = CaptionScorer(references).score(captions)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == expected.corpus


def _score_in_process(rank: int, folder: Path, shares: tuple[int, int]) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    references, captions = nasty(7, 9)
    ids = list(captions)
    mine = ids[: shares[0]] if rank == 0 else ids[9 - shares[1] :]
    metrics = CaptionMetrics(references)
    if mine:
        metrics.update(mine, [captions[image] for image in mine])
    torch.save(metrics.compute().corpus, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
