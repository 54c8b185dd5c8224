"""SPICE, for those who have its jars: nothing is downloaded."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from captionlab.metrics.java import OPTIONS, JavaError, find_java, shipped

_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_SECONDS_PER_IMAGE = 5.0


def score_spice(
    references: Mapping[str, Sequence[str]], captions: Mapping[str, str], folder: Path
) -> tuple[float, list[float]]:
    """Corpus score and one per image, in the order of `references`; all text tokenised.

    Args:
        references: image id to captions.
        captions: image id to caption.
        folder: holds the two jars of Stanford CoreNLP 3.6.0.

    Raises:
        JavaError: if they are missing, or SPICE fails.

    Source:
        Anderson et al. 2016.
    """
    absent = [name for name in _JARS if not (folder / name).is_file()]
    if absent:
        raise JavaError(
            f"SPICE needs {' and '.join(absent)} in {folder}; take them from "
            "stanford-corenlp-full-2015-12-09.zip of Stanford's CoreNLP history page."
        )
    home = shipped("spice")
    jars = [home / "spice-1.0.jar", *sorted((home / "lib").glob("*.jar"))]
    classpath = os.pathsep.join(map(str, [*jars, *(folder / name for name in _JARS)]))
    asked = [
        {"image_id": image, "test": captions[image], "refs": list(references[image])}
        for image in references
    ]
    with tempfile.TemporaryDirectory() as temporary:
        told, found = Path(temporary, "captions.json"), Path(temporary, "scores.json")
        told.write_text(json.dumps(asked), encoding="utf-8")
        # Its cache of scene graphs reaches into java.lang.
        opened = ["--add-opens", "java.base/java.lang=ALL-UNNAMED", "-Xmx8G"]
        command = [find_java(), *OPTIONS, *opened, "-cp", classpath, "edu.anu.spice.SpiceScorer"]
        command += [str(told), "-out", str(found), "-subset", "-silent"]
        limit = 300 + _SECONDS_PER_IMAGE * len(asked)
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit)
            rows = json.loads(found.read_text(encoding="utf-8"))
            by_image = {row["image_id"]: float(row["scores"]["All"]["f"]) for row in rows}
            values = [by_image[image] for image in references]
        except subprocess.TimeoutExpired as error:
            raise JavaError(f"SPICE did not end within {limit:.0f} s.") from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[:1] or ["no word"]
            raise JavaError(
                f"SPICE ended with status {done.returncode} ({reason[0][:200]})."
            ) from error
    return sum(values) / len(values), values
