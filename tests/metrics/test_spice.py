"""SPICE is opt-in: without its jars it says so, with them its scores are read by image."""

from __future__ import annotations

from pathlib import Path

import pytest

from captionlab.metrics.definitions import spice
from captionlab.metrics.definitions.spice import Spice
from captionlab.metrics.java import JavaError
from tests.metrics.tokenized import tokenized

REFERENCES = {"b": ["a dog"], "a": ["a cat", "one cat"]}
CAPTIONS = {"a": "a cat", "b": "a dog"}


@pytest.fixture
def jars(tmp_path: Path) -> Path:
    for name in Spice.jars:
        (tmp_path / name).touch()
    return tmp_path


def fake_java(folder: Path, monkeypatch: pytest.MonkeyPatch, writes: str, status: int = 0) -> None:
    """A Java that writes to the file after -out."""
    java = folder / "java"
    java.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != -out ]; do shift; done\n'
        f"printf '%s' '{writes}' > \"$2\"\necho broken >&2\nexit {status}\n"
    )
    java.chmod(0o755)
    monkeypatch.setattr(spice, "find_java", lambda: str(java))


def test_without_jars_it_says_where_to_take_them(tmp_path: Path) -> None:
    with pytest.raises(JavaError, match="stanford-corenlp-full-2015-12-09"):
        Spice(tmp_path).score(tokenized(REFERENCES, CAPTIONS))


def test_scores_are_read_by_image(jars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = '[{"image_id": "a", "scores": {"All": {"f": 0.5}}},'
    fake_java(jars, monkeypatch, first + '{"image_id": "b", "scores": {"All": {"f": 0.25}}}]')
    scores = Spice(jars).score(tokenized(REFERENCES, CAPTIONS))
    assert scores.corpus == {"spice": 0.375}
    assert scores.per_image == {"spice": [0.25, 0.5]}


def test_a_failure_is_told(jars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(jars, monkeypatch, "", status=3)
    with pytest.raises(JavaError, match="status 3"):
        Spice(jars).score(tokenized(REFERENCES, CAPTIONS))


def test_java_that_does_not_start_is_told(jars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spice, "find_java", lambda: "/nowhere/java")
    with pytest.raises(JavaError, match="SPICE did not run"):
        Spice(jars).score(tokenized(REFERENCES, CAPTIONS))
