"""One list of metrics: what each says of itself is true, and nobody else knows one by name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from captionlab.metrics import CaptionScorer, registry
from captionlab.metrics.protocol import Metric
from captionlab.metrics.resampling import CorpusStatistics
from tests.metrics.test_caption_metrics import nasty
from tests.metrics.tokenized import tokenized

SRC = Path(registry.__file__).parents[1]


@pytest.mark.parametrize("metric", registry.java_free(), ids=lambda metric: metric.name)
def test_a_metric_gives_what_it_says(metric: type[Metric]) -> None:
    references, captions = nasty(4, 30)
    scores = metric().score(tokenized(references, captions))
    names = {score.name for score in metric.scores}
    assert scores.corpus.keys() == scores.per_image.keys() == names
    assert {len(values) for values in scores.per_image.values()} == {30}
    assert len(scores.statistics) == (30 if metric.has_statistics else 0)
    statistics = {metric.name: scores.statistics} if metric.has_statistics else {}
    sums = CorpusStatistics(scores.per_image, statistics)
    for name, values in sums.scores(sums.columns.sum(axis=0, keepdims=True)).items():
        assert values[0] == pytest.approx(scores.corpus[name], abs=1e-12), name


@pytest.mark.parametrize("metric", registry.java_free(), ids=lambda metric: metric.name)
def test_captions_that_a_person_wrote_are_better_than_others(metric: type[Metric]) -> None:
    references, _ = nasty(5, 30)
    right = {image: texts[0] for image, texts in references.items()}
    wrong = dict(zip(references, [*list(right.values())[1:], right["0"]], strict=True))
    better, worse = (metric().score(tokenized(references, c)).corpus for c in (right, wrong))
    for score in metric.scores:
        assert (better[score.name] > worse[score.name]) == score.higher_is_better


def test_the_ranking_score_comes_first_and_needs_no_java() -> None:
    names = [score.name for score in registry.scores()]
    assert names[0] == registry.RANKING
    assert len(set(names)) == len(names)
    validated = CaptionScorer({"a": ["a dog"]}).score({"a": "a cat"}).corpus
    assert validated.keys() == set(registry.validation_scores())
    assert registry.validation_scores()[0] == registry.RANKING


def test_scores_on_other_tokens_and_unknown_ones_have_a_title() -> None:
    named = {"cider_d_pyptb": 1.0, "clip_s": 1.0, "bleu_4": 1.0}
    titles = [score.title for score in registry.in_order(list(named))]
    assert titles == ["BLEU-4", "clip_s", "CIDEr-D (Python's tokens)"]
    assert [score.name for score in registry.most_important(list(named), 2)] == ["bleu_4", "clip_s"]
    assert registry.most_important(["cider_d_pyptb"], 2)[0].name == "cider_d_pyptb"


def test_a_metric_of_ones_own_is_computed_and_summed(words: type[Metric]) -> None:
    scores = CaptionScorer({"a": ["a dog"], "b": ["a cat"]}).score({"a": "a", "b": "a big cat"})
    assert scores.corpus["words"] == 2.0
    assert scores.per_image["words"] == [1.0, 3.0]
    sums = CorpusStatistics(scores.per_image, scores.statistics)
    assert sums.scores(sums.columns[:1], num_images=1)["words"] == [1.0]
    assert "words" in registry.validation_scores()


def test_a_name_is_taken_once(words: type[Metric]) -> None:
    class Again(words):  # type: ignore[misc,valid-type]
        name = "again"

    with pytest.raises(ValueError, match="already a metric again"):
        registry.register(Again)


def test_nothing_but_a_metrics_own_file_knows_its_name() -> None:
    names = {score.name for score in registry.scores()} | {m.name for m in registry.metrics()}
    allowed = {"metrics/registry.py": {registry.RANKING}}
    knowing = set()
    for file in sorted(SRC.rglob("*.py")):
        path = file.relative_to(SRC).as_posix()
        if path.startswith("metrics/definitions/"):
            continue
        constants = {
            node.value
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        if constants & names - allowed.get(path, set()):
            knowing.add(path)
    assert knowing == {"metrics/java.py"}, "METEOR's program lies in a package of this name"


def test_asking_the_registry_brings_no_torch() -> None:
    code = (
        "from captionlab.metrics import registry; registry.metrics(); import sys;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
