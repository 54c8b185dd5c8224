"""How much cheaper the scores are than pycocoevalcap's, and equal.

    python benchmarks/scores.py

Prints ratios measured in one run, on made-up captions of COCO's size: 5,000 images with 5
references, words drawn by Zipf's law, references that share most of their words.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor as TheirMeteor
from pycocoevalcap.rouge.rouge import Rouge

from captionlab.metrics import registry
from captionlab.metrics.java import MeteorProcess
from captionlab.metrics.protocol import MetricScores, TokenizedCaptions, TokenizedReferences
from captionlab.metrics.resampling import CorpusStatistics
from captionlab.metrics.significance import NUM_RESAMPLES, compare


def made_up(num_images: int, seed: int) -> tuple[dict[str, list[str]], list[dict[str, str]]]:
    """References, and the captions of two systems."""
    rng = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(9000)]
    weights = [1 / (i + 1) for i in range(9000)]

    def vary(words: list[str], share: float) -> str:
        kept = [word for word in words if rng.random() < share]
        new = rng.choices(vocabulary, weights, k=rng.randint(2, 6))
        for word in new:
            kept.insert(rng.randint(0, len(kept)), word)
        return " ".join(kept)

    references, systems = {}, [dict[str, str](), dict[str, str]()]
    for i in range(num_images):
        said = rng.choices(vocabulary, weights, k=rng.randint(8, 12))
        references[str(i)] = [vary(said, 0.7) for _ in range(5)]
        for system in systems:
            system[str(i)] = vary(said, 0.6)
    return references, systems


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, CPU-seconds and wall-seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        result = work()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def listed(captions: dict[str, str]) -> dict[str, list[str]]:
    """Captions as pycocoevalcap wants them."""
    return {image: [text] for image, text in captions.items()}


def score(references: TokenizedReferences, captions: dict[str, str]) -> dict[str, MetricScores]:
    """By every metric that needs no Java."""
    texts = TokenizedCaptions([captions[image] for image in references.texts], references)
    return {metric.name: metric().score(texts) for metric in registry.java_free()}


def count(references: dict[str, list[str]]) -> TokenizedReferences:
    """References with their n-grams counted."""
    counted = TokenizedReferences(references)
    _ = counted.ngrams
    return counted


def lines(num_images: int) -> Iterator[str]:
    """The report, line by line."""
    references, systems = made_up(num_images, seed=0)
    yield from whole(references, systems[0])

    def theirs() -> dict[str, float]:
        bleu, _ = Bleu(4).compute_score(references, listed(systems[0]), verbose=0)
        scores = {f"bleu_{k + 1}": value for k, value in enumerate(bleu)}
        scores["rouge_l"] = Rouge().compute_score(references, listed(systems[0]))[0]
        return scores | {"cider_d": Cider().compute_score(references, listed(systems[0]))[0]}

    expected, their_cpu, their_seconds = timed(theirs)
    counted, once_cpu, _ = timed(lambda: count(references))
    scores, our_cpu, our_seconds = timed(lambda: [score(counted, system) for system in systems])
    our_cpu, our_seconds = our_cpu / 2, our_seconds / 2
    ours = {name: v for one in scores[0].values() for name, v in one.corpus.items()}
    equal = all(ours[name] == float(value) for name, value in expected.items())
    yield f"BLEU + ROUGE-L + CIDEr-D of {num_images} images, CPU, pycocoevalcap over ours:"
    yield f"  each score of the same references  {their_cpu / our_cpu:5.1f}x"
    yield f"  the first, references counted      {their_cpu / (our_cpu + once_cpu):5.1f}x"
    yield f"  all scores equal (==): {equal}"

    their_meteor, our_meteor = TheirMeteor(), MeteorProcess()
    timed(lambda: their_meteor.compute_score(references, listed(systems[0])))
    _, _, first = our_meteor.score(references, systems[0])
    (their_score, _), _, their_wall = timed(
        lambda: their_meteor.compute_score(references, listed(systems[1]))
    )
    (our_score, _, second), _, our_wall = timed(lambda: our_meteor.score(references, systems[1]))
    together = (their_seconds + their_wall) / (our_seconds + our_wall)
    yield "Second call in the same Java process, wall, pycocoevalcap over ours:"
    yield f"  METEOR alone {their_wall / our_wall:.1f}x, all scores {together:.1f}x"
    yield f"  METEOR equal (==): {their_score == our_score}"

    runs = []
    for one, meteor in zip(scores, (first, second), strict=True):
        per_image = {name: v for metric in one.values() for name, v in metric.per_image.items()}
        statistics = {name: metric.statistics for name, metric in one.items() if metric.statistics}
        runs.append(CorpusStatistics(per_image, statistics | {"meteor": meteor}))
    _, _, seconds = timed(lambda: compare([[run] for run in runs]))
    naive = 2 * NUM_RESAMPLES * (our_cpu + our_wall)
    yield f"{NUM_RESAMPLES} paired bootstraps and as many randomisations, all scores, two systems:"
    yield f"  {naive / seconds:.0f}x faster than scoring each resample; {seconds:.1f} s here"


def whole(references: dict[str, list[str]], captions: dict[str, str]) -> Iterator[str]:
    """All of `captionlab evaluate`, intervals and all, against pycocoevalcap's scores alone."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = [[i, text, "test"] for i, texts in references.items() for text in texts]
        with (folder / "captions.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["image", "caption", "split"], *rows])
        entries = [{"image_id": image, "caption": text} for image, text in captions.items()]
        (folder / "system.json").write_text(json.dumps(entries))
        ours = ["-m", "captionlab.cli", "evaluate", "system.json", "--data", "."]
        theirs = ["-c", _THEIRS, "captions.csv", "system.json"]
        ours_cpu, theirs_cpu = (cpu_of([sys.executable, *c], folder) for c in (ours, theirs))
    yield "All of `evaluate`, CPU with Java, pycocoevalcap's scores over it:"
    yield f"  {theirs_cpu / ours_cpu:.2f}x ({theirs_cpu:.1f} s over {ours_cpu:.1f} s here)"


_THEIRS = """
import csv, json, sys
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

references = {}
for row in csv.DictReader(open(sys.argv[1])):
    references.setdefault(row["image"], []).append({"caption": row["caption"]})
captions = {r["image_id"]: [{"caption": r["caption"]}] for r in json.load(open(sys.argv[2]))}
references, captions = (PTBTokenizer().tokenize(part) for part in (references, captions))
meteor = Meteor()
for scorer in (Bleu(4), Rouge(), Cider(), meteor):
    scorer.compute_score(references, captions)
meteor.meteor_p.stdin.close()
meteor.meteor_p.wait()
"""


def cpu_of(command: list[str], folder: Path) -> float:
    """CPU-seconds of a command and all its descendants, those that outlive it for a moment too."""
    libc = ctypes.CDLL(None)
    libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: METEOR's process becomes ours when it is orphaned
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    for line in lines(parser.parse_args().images):
        print(line, flush=True)
