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
import math
import re
import types
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from captionlab.errors import ConfigError

REQUIRED: Any = inspect.Parameter.empty
_SCALARS = (bool, int, float, str, Path, type(None))
_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
}
_Part = TypeVar("_Part")


class Derived:
    """Marks an argument that is computed when a run is built, such as a vocabulary's size.

    Arguments of other than plain types need no mark.
    """


Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
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
        """Type, range and choices in words, such as `a whole number of at least 1, or null`."""
        words = [str(choice) for choice in self.choices]
        for part in _alternatives(self.type):
            if part is type(None) or get_origin(part) is Literal:
                continue
            limits = " and ".join(_in_words(c) for c in self.constraints)
            kind = _TYPES.get(part) or _list_in_words(part)
            words.append(f"{kind} of {limits}" if limits else kind)
        if type(None) in _alternatives(self.type):
            words.append("null")
        return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

    def problem(self, value: Any) -> str | None:
        """What the value must be; None where it is allowed."""
        if any(_is_of(value, part) for part in _alternatives(self.type)) and (
            value in self.choices
            or not isinstance(value, int | float)
            or (math.isfinite(value) and all(_holds(c, value) for c in self.constraints))
        ):
            return None
        return f"must be {self.allowed}"

    def convert(self, value: Any) -> Any:
        """The value as the type has it, such as 1.0 for 1; unchanged where it does not fit."""
        parts = _alternatives(self.type)
        if isinstance(value, int) and not isinstance(value, bool) and value not in self.choices:
            if float in parts and int not in parts:
                return float(value)
            if str in parts and int not in parts:
                return str(value)
        return value


def as_written(value: Any) -> str:
    """A value as one writes it on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def check_options(
    prefix: str,
    options: Mapping[str, Option],
    values: Mapping[str, Any],
    all_of_them: bool = True,
) -> None:
    """Compare a group of values with the options that it may and must have.

    Args:
        prefix: of the names in the configuration, such as `decoder.`.
        options: by name.
        values: by name.
        all_of_them: whether an option that has no default must be among the values.

    Raises:
        ConfigError: for a value out of its range, an unknown name or a missing value, naming
            option, value and what is allowed.
    """
    for name, value in values.items():
        if name not in options:
            near = get_close_matches(name, options, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(options)}."
            raise ConfigError(f"unknown option {prefix}{name}; {hint}")
        problem = options[name].problem(value)
        if problem is not None:
            found = "nothing" if value == "" else value
            raise ConfigError(f"{prefix}{name} {problem}, found {found}.")
    for name, option in options.items():
        if all_of_them and option.default is REQUIRED and name not in values:
            raise ConfigError(f"{prefix}{name} is missing: {option.meaning}")


def options_of(part: Callable[..., Any]) -> Mapping[str, Option]:
    """The configurable arguments of a class or function, by name, in their order.

    Arguments marked `Derived`, and those of other than plain types, are not among them.
    """
    return _options_of(part)


@cache
def _options_of(part: Hashable) -> Mapping[str, Option]:
    assert callable(part)
    function = part.__init__ if inspect.isclass(part) else part
    meanings = _argument_docs(part)
    found: dict[str, Option] = {}
    for name, parameter in inspect.signature(part).parameters.items():
        annotation, marks = _split(_evaluate(parameter.annotation, function))
        if Derived in marks or not all(map(_is_plain, _alternatives(annotation))):
            continue
        meaning = meanings.get(name, "")
        found[name] = Option(name, annotation, marks, parameter.default, meaning)
    return found


def renamed(options: Mapping[str, Option], **names: str) -> dict[str, Option]:
    """A choice of `options`: `new=old`, in that order."""
    return {new: replace(options[old], name=new) for new, old in names.items()}


def find_part(target: str, role: Callable[..., _Part]) -> type[_Part]:
    """The class that a dotted name means; nothing but modules is run to find it.

    Args:
        target: such as `captionlab.decoders.RecurrentDecoder`.
        role: class that it must be a subclass of, abstract or not.

    Raises:
        ConfigError: if there is no such class, or it is of another role.
    """
    module, _, name = target.rpartition(".")
    try:
        part = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"_target_={target} cannot be imported ({error}).") from error
    assert isinstance(role, type)
    if not (inspect.isclass(part) and issubclass(part, role)):
        raise ConfigError(f"_target_={target} is no {role.__name__}; name a subclass of it.")
    return cast(type[_Part], part)


def make_part(spec: Mapping[str, Any], role: Callable[..., _Part], **derived: Any) -> _Part:
    """Build what a group of the configuration describes.

    Args:
        spec: `_target_` and the options, checked before; what the constructor does not take is
            left out.
        role: base class of the part.
        derived: arguments that are computed; those that the constructor does not take are left out.
    """
    part = find_part(spec["_target_"], role)
    options = {name: spec[name] for name in options_of(part) if name in spec}
    taken = inspect.signature(part).parameters
    return part(**options, **{name: value for name, value in derived.items() if name in taken})


def _evaluate(annotation: Any, function: Any) -> Any:
    """An annotation that `from __future__ import annotations` left as text."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, function.__globals__)  # as typing.get_type_hints does
    except NameError:  # imported for type checkers only: no plain type
        return Any


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
        return all(_is_plain(_split(a)[0]) for a in get_args(annotation) if a is not ...)
    return annotation in _SCALARS or get_origin(annotation) is Literal


def _members(annotation: Any) -> tuple[Any, ...] | None:
    """The types of a tuple of fixed length; None of `list[X]` and `tuple[X, ...]`."""
    inner = get_args(annotation)
    return None if get_origin(annotation) is list or ... in inner else inner


def _list_in_words(annotation: Any) -> str:
    inner = _members(annotation)
    if inner is None:
        return "a list"
    plain, marks = _split(inner[0])
    return f"a list of {len(inner)}, each {Option('', plain, marks, REQUIRED, '').allowed}"


def _is_of(value: Any, annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if get_origin(annotation) is Annotated:
        plain, marks = _split(annotation)
        return _is_of(value, plain) and all(_holds(mark, value) for mark in marks)
    if get_origin(annotation) in (list, tuple):
        if not isinstance(value, list | tuple):
            return False
        inner = _members(annotation)
        if inner is None:
            return all(_is_of(v, get_args(annotation)[0]) for v in value)
        return len(value) == len(inner) and all(map(_is_of, value, inner))
    if annotation is Path:
        return isinstance(value, str | Path)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, annotation)


def _holds(constraint: Any, value: Any) -> bool:
    match constraint:
        case Ge(ge=bound):
            return bool(value >= bound)
        case Gt(gt=bound):
            return bool(value > bound)
        case Le(le=bound):
            return bool(value <= bound)
        case Lt(lt=bound):
            return bool(value < bound)
    return True


def _in_words(constraint: Any) -> str:
    match constraint:
        case Ge(ge=bound):
            return f"at least {bound}"
        case Gt(gt=bound):
            return f"more than {bound}"
        case Le(le=bound):
            return f"at most {bound}"
        case Lt(lt=bound):
            return f"less than {bound}"
    return str(constraint)


def _argument_docs(part: Any) -> dict[str, str]:
    """The `Args:` of Google-style docstrings, by name, each in one line; a base class's too."""
    meanings: dict[str, str] = {}
    for owner in reversed(part.__mro__) if inspect.isclass(part) else [part]:
        text = inspect.cleandoc(owner.__doc__ or "")
        section = re.search(r"^Args:\n(.*?)(?:\n\S|\Z)", text, re.S | re.M)
        if section is not None:
            entries = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", section[1], re.S | re.M)
            meanings |= {name: " ".join(meaning.split()) for name, meaning in entries}
    return meanings
