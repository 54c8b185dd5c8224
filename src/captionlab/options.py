"""The options of a part: what its constructor says of its arguments.

An option has one home, the constructor that takes it. Its annotation gives the type, the allowed
range (`annotated_types`) and the choices (`Literal`); the docstring gives the meaning. What the
configuration accepts, what is checked before a run and what the documentation lists is read here.

    class Stretch:
        '''Stretches photos.

Args:
            factor: of the longer side.
            mode: how pixels are interpolated.
            image_size: of the encoder.
        '''

        def __init__(
            self,
            factor: Annotated[float, Gt(1)],
            mode: Literal["nearest", "bilinear"] = "bilinear",
            *,
            image_size: Annotated[int, Derived],
        ) -> None: ...
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from captionlab.errors import ConfigError

REQUIRED: Any = inspect.Parameter.empty
_SCALARS = (bool, int, float, str, Path, type(None))
_WORDS = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}
_Part = TypeVar("_Part")


class Derived:
    """Marks an argument that is computed when a run is built, such as a vocabulary's size.

    Arguments of other than plain types need no mark.
    """


Count = Annotated[int, Ge(1)]
Probability = Annotated[float, Ge(0), Lt(1)]  # of dropout, say: at 1 nothing is left
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class Option:
    """One configurable argument of a constructor.

    Attributes:
        name: of the argument.
        type: its annotation without the constraints.
        constraints: `Ge`, `Gt`, `Le` and `Lt` on a number.
        default: `REQUIRED` if it has none.
        meaning: from the docstring, one line.
    """

    name: str
    type: Any
    constraints: tuple[Any, ...]
    default: Any
    meaning: str

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a `Literal`; none where any value of the type will do."""
        literals = [part for part in _alternatives(self.type) if get_origin(part) is Literal]
        return tuple(value for part in literals for value in get_args(part))

    @property
    def allowed(self) -> str:
        """The range or the choices in words, such as `at least 0 and below 1`."""
        if self.choices:
            others = [t.__name__ for t in _alternatives(self.type) if t in (int, float)]
            words = ", ".join([*map(str, self.choices), *(f"or an {name}" for name in others)])
        else:
            words = " and ".join(
                f"{_WORDS[type(c)]} {next(iter(vars(c).values()))}" for c in self.constraints
            )
        nullable = type(None) in _alternatives(self.type)
        return f"{words}, or null" if words and nullable else words

    def problem(self, value: Any) -> str | None:
        """What the value should be, such as `must be at least 1`; None where it is allowed."""
        if value is None:
            return None if type(None) in _alternatives(self.type) else "must be set"
        if self.choices and value not in self.choices:
            numbers = tuple(t for t in _alternatives(self.type) if t in (int, float))
            if not numbers or not isinstance(value, numbers):
                return f"must be one of {self.allowed}"
        if isinstance(value, int | float) and not all(_holds(c, value) for c in self.constraints):
            return f"must be {self.allowed}"
        return None


def check_options(key: str, options: Mapping[str, Option], values: Mapping[str, Any]) -> None:
    """Compare a group of values with the options that it may and must have.

    Args:
        key: of the group in the configuration, such as `decoder`.
        options: by name.
        values: by name.

    Raises:
        ConfigError: for a value out of its range, an unknown name or a missing value, naming
            option, value and what is allowed.
    """
    for name, value in values.items():
        if name not in options:
            near = get_close_matches(name, options, n=1)
            hint = f"did you mean {key}.{near[0]}?" if near else f"it has {', '.join(options)}."
            raise ConfigError(f"unknown option {key}.{name}; {hint}")
        problem = options[name].problem(value)
        if problem is not None:
            raise ConfigError(f"{key}.{name} {problem}, found {value}.")
    for name, option in options.items():
        if option.default is REQUIRED and name not in values:
            raise ConfigError(f"{key}.{name} is missing: {option.meaning}")


@cache
def options_of(part: Callable[..., Any]) -> Mapping[str, Option]:
    """The configurable arguments of a class or function, by name, in their order.

    Arguments marked `Derived`, and those of other than plain types, are not among them.
    """
    function = part.__init__ if inspect.isclass(part) else part
    hints = get_type_hints(function, include_extras=True)
    meanings = _argument_docs(part)
    found: dict[str, Option] = {}
    for name, parameter in inspect.signature(part).parameters.items():
        annotation, marks = _split(hints.get(name, Any))
        if Derived in marks or not all(map(_is_plain, _alternatives(annotation))):
            continue
        meaning = meanings.get(name, "")
        found[name] = Option(name, annotation, marks, parameter.default, meaning)
    return found


def renamed(options: Mapping[str, Option], **names: str) -> dict[str, Option]:
    """A choice of `options`: `new=old`, in that order."""
    return {new: replace(options[old], name=new) for new, old in names.items()}


def find_part(target: str, role: type[_Part]) -> type[_Part]:
    """The class that a dotted name means; nothing but modules is run to find it.

    Args:
        target: such as `captionlab.decoders.RecurrentDecoder`.
        role: what it must be a subclass of.

    Raises:
        ConfigError: if there is no such class, or it is of another role.
    """
    module, _, name = target.rpartition(".")
    try:
        part = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"_target_={target} cannot be imported ({error}).") from error
    if not (inspect.isclass(part) and issubclass(part, role)):
        raise ConfigError(f"_target_={target} is no {role.__name__}; name a subclass of it.")
    return part


def _split(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation without its marks, and these; of `Annotated[X, ...] | None` too."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        plain, more = _split(inner)
        return plain, (*more, *marks)
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [_split(part) for part in get_args(annotation)]
        plain = Union[tuple(part for part, _ in parts)]  # noqa: UP007  (made at run time)
        return plain, tuple(mark for _, marks in parts for mark in marks)
    return annotation, ()


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if union else (annotation,)


def _is_plain(annotation: Any) -> bool:
    if get_origin(annotation) in (list, tuple):
        return all(map(_is_plain, (a for a in get_args(annotation) if a is not ...)))
    return annotation in _SCALARS or get_origin(annotation) is Literal


def _holds(constraint: Any, value: float) -> bool:
    match constraint:
        case Ge(ge=bound):
            return value >= bound  # type: ignore[operator]
        case Gt(gt=bound):
            return value > bound  # type: ignore[operator]
        case Le(le=bound):
            return value <= bound  # type: ignore[operator]
        case Lt(lt=bound):
            return value < bound  # type: ignore[operator]
    return True


def _argument_docs(part: Callable[..., Any]) -> dict[str, str]:
    """The `Args:` of a Google-style docstring, by name, each in one line."""
    section = re.search(r"^Args:\n(.*?)(?:\n\S|\Z)", inspect.getdoc(part) or "", re.S | re.M)
    if section is None:
        return {}
    entries = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", section[1], re.S | re.M)
    return {name: " ".join(text.split()) for name, text in entries}
