"""SPICE, for those who have its jars: nothing is downloaded."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from captionlab.metrics.java import OPTIONS, JavaError, find_java, shipped
from captionlab.metrics.protocol import Metric, MetricScores, Score, TokenizedCaptions
from captionlab.metrics.registry import register

_SECONDS_PER_IMAGE = 5.0


@register
class Spice(Metric):
    """F-measure of the scene graphs of caption and references, mean over images.

    Source:
        Anderson et al. 2016.
    """

    name = "spice"
    scores = (Score("spice", "SPICE", importance=60),)
    needs_java = True
    tokenizer = "stanford"
    jars = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")

    def score(self, captions: TokenizedCaptions) -> MetricScores:
        """Score one caption per image.

        Raises:
            JavaError: if the jars are missing, or SPICE fails.
        """
        references = captions.references.texts
        written = dict(zip(references, captions.texts, strict=True))
        values = _run(references, written, self._classpath())
        return MetricScores({self.name: sum(values) / len(values)}, {self.name: values})

    def _classpath(self) -> str:
        folder = self.jar_folder or Path()
        absent = [name for name in self.jars if not (folder / name).is_file()]
        if absent:
            raise JavaError(
                f"SPICE needs {' and '.join(absent)} in {folder}; take them from "
                "stanford-corenlp-full-2015-12-09.zip of Stanford's CoreNLP history page."
            )
        home = shipped("spice")
        jars = [home / "spice-1.0.jar", *sorted((home / "lib").glob("*.jar"))]
        return os.pathsep.join(map(str, [*jars, *(folder / name for name in self.jars)]))


def _run(
    references: Mapping[str, Sequence[str]], captions: Mapping[str, str], classpath: str
) -> list[float]:
    """One value per image, in the order of `references`."""
    entries = [
        {"image_id": image, "test": captions[image], "refs": list(texts)}
        for image, texts in references.items()
    ]
    with tempfile.TemporaryDirectory() as temporary:
        entries_path, scores_path = Path(temporary, "captions.json"), Path(temporary, "scores.json")
        entries_path.write_text(json.dumps(entries), encoding="utf-8")
        # Its cache of scene graphs reaches into java.lang.
        opened = ["--add-opens", "java.base/java.lang=ALL-UNNAMED", "-Xmx8G"]
        command = [find_java(), *OPTIONS, *opened, "-cp", classpath, "edu.anu.spice.SpiceScorer"]
        command += [str(entries_path), "-out", str(scores_path), "-subset", "-silent"]
        limit = 300 + _SECONDS_PER_IMAGE * len(entries)
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise JavaError(f"SPICE did not run: {error}.") from error
        try:
            rows = json.loads(scores_path.read_text(encoding="utf-8"))
            by_image = {row["image_id"]: float(row["scores"]["All"]["f"]) for row in rows}
            return [by_image[image] for image in references]
        except (OSError, ValueError, LookupError, TypeError) as error:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            reason = lines[0][:200] if lines else "no reason given"
            raise JavaError(f"SPICE ended with status {done.returncode} ({reason}).") from error
