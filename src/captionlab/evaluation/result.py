"""The result of an evaluation, and how `result.json` and `predictions.jsonl` hold it.

Nothing heavy is imported: reports and answers from disk read results, too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from captionlab.errors import RunError
from captionlab.files import write_atomically
from captionlab.metrics.words import WordCount

_T = TypeVar("_T")


@dataclass(frozen=True)
class Training:
    """How a run came to its result.

    Attributes:
        parameters: of `encoder`, `encoder_trained` and `decoder`.
        seconds: spent on `encode`, `train` and `test`.
        epochs: trained.
        best_epoch: whose checkpoint was tested, counted from 1.
        best_validation: name of the monitored score to its best value.
        peak_memory_bytes: resident, of the process and its children.
    """

    parameters: dict[str, float]
    seconds: dict[str, float]
    epochs: int
    best_epoch: int
    best_validation: dict[str, float | None]
    peak_memory_bytes: int


@dataclass(frozen=True)
class Result:
    """What one caption per image of a split is worth.

    Attributes:
        scores: corpus scores by name.
        missing: name of a score to the reason why there is none.
        blind: corpus scores of the same captions given to other images.
        human: corpus scores of each image's first reference against its others; empty where they
            cannot be computed.
        language: see `captionlab.metrics.diversity.language`.
        truth: share of claims that are true of the known scene, by kind; empty where no scene is
            known.
        warnings: what a user should know before quoting a score.
        num_images: that were scored.
        training: None for captions that no run of captionlab wrote.
    """

    scores: dict[str, float]
    missing: dict[str, str]
    blind: dict[str, float]
    human: dict[str, float]
    language: dict[str, float]
    truth: dict[str, float]
    warnings: list[str]
    num_images: int
    training: Training | None = None

    @property
    def best_validation_score(self) -> float | None:
        """Of the run's best epoch; None for captions that no run wrote."""
        return None if self.training is None else next(iter(self.training.best_validation.values()))

    def to_json(self) -> dict[str, Any]:
        """The object in `result.json`; the fields of `training` lie beside the others."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "training"}
        return own | ({} if self.training is None else vars(self.training))

    @classmethod
    def from_json(cls, value: Any, path: Path) -> Result:
        """Read the object in `result.json`.

        Args:
            value: as `to_json` gives it.
            path: of the file, for messages.

        Raises:
            RunError: naming the file and the field, if one is missing or of another kind.
        """
        result = _read(cls, value, str(path))
        if any(field.name in value for field in fields(Training)):
            return replace(result, training=_read(Training, value, str(path)))
        return result

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read `result.json`.

        Raises:
            RunError: if the file cannot be read, naming it and the field that is wrong.
        """
        return cls.from_json(_parse(_text(path), str(path)), path)


@dataclass(frozen=True)
class Prediction:
    """The caption of one image and what it got.

    Attributes:
        image_id: as in the corpus.
        caption: as the model wrote it.
        scores: by name.
        statistics: metric name to what it sums over images before it scores.
        log_probability: of the caption under the model that wrote it; None if no model did.
        finished: whether the model wrote the end token; None if no model wrote the caption.
    """

    image_id: str
    caption: str
    scores: dict[str, float]
    statistics: dict[str, list[float]]
    log_probability: float | None = None
    finished: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """The object in a line of `predictions.jsonl`."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_json(cls, value: Any, place: str) -> Prediction:
        """Read the object in a line of `predictions.jsonl`.

        Args:
            value: as `to_json` gives it.
            place: file and line, for messages.

        Raises:
            RunError: naming the place and the field, if one is missing or of another kind.
        """
        return _read(cls, value, place)


@dataclass(frozen=True)
class Evaluation:
    """One system's captions and what they are worth.

    Attributes:
        name: of the system.
        data: name of the data set and split.
        result: of all images.
        predictions: one per image, at least one.
        words: counts by category.
    """

    name: str
    data: str
    result: Result
    predictions: Sequence[Prediction]
    words: Sequence[WordCount]


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write `predictions.jsonl`, whole or not at all."""
    lines = [json.dumps(p.to_json(), ensure_ascii=False) for p in predictions]
    write_atomically(path, "\n".join(lines) + "\n")


def read_predictions(path: Path) -> list[Prediction]:
    """Read `predictions.jsonl`.

    Raises:
        RunError: if the file cannot be read, naming the line and the field that is wrong.
    """
    predictions = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line:
            place = f"{path}, line {number}"
            predictions.append(Prediction.from_json(_parse(line, place), place))
    return predictions


def _read(kind: type[_T], value: Any, place: str) -> _T:
    """A dataclass of a JSON object; each field is checked against its annotation."""
    if not isinstance(value, dict):
        raise RunError(f"{place} is damaged: expected a JSON object, found {value!r:.40}.")
    values = {}
    for field, hint in _fields_of(kind):  # type: ignore[arg-type]  # mypy: a class is no Hashable
        if field.name in value:
            values[field.name] = value[field.name]
            if not _fits(value[field.name], hint):
                found = f"{value[field.name]!r:.40}"
                raise RunError(f"{place}: {field.name} must be {field.type}, found {found}.")
        elif field.default is MISSING:
            raise RunError(
                f"{place} has no field {field.name!r}: it is damaged, or another version of "
                "captionlab made it; remove the run's folder and run the same command again."
            )
    return kind(**values)


@cache
def _fields_of(kind: type[Any]) -> list[tuple[Field[Any], Any]]:
    """With their types; those of a training lie beside the others."""
    hints = get_type_hints(kind)
    return [(f, hints[f.name]) for f in fields(kind) if f.name != "training"]


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a type; true and false are no numbers."""
    return _all_fit((value,), hint)


def _all_fit(values: Collection[Any], hint: Any) -> bool:
    """Whether all are of a type; numbers and texts, of which a file has millions, by their set."""
    origin, arguments = _parts_of(hint)
    if origin is UnionType:
        return all(any(_fits(value, argument) for argument in arguments) for value in values)
    if origin is dict:
        return all(type(v) is dict and _all_fit(v.values(), arguments[1]) for v in values)
    if origin is list:
        return all(type(v) is list and _all_fit(v, arguments[0]) for v in values)
    return _ALLOWED.get(hint, {hint}).issuperset(map(type, values))


_ALLOWED = {float: {int, float}}


@cache
def _parts_of(hint: Hashable) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(hint), get_args(hint)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: it is not UTF-8 ({error}).") from error


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RunError(f"{place} is damaged: no valid JSON ({error}).") from error
