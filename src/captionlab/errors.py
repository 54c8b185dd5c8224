"""Errors that a user can mend; the command line prints their one line and no stack trace."""

from __future__ import annotations

import re

_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class CaptionLabError(Exception):
    """A mistake in a path, a file, an option or the machine, told in one or two lines.

    The message says what was wrong, what was found, what is allowed and what to do next.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(CaptionLabError):
    """An option, or a combination of options, that cannot work."""


class DataError(CaptionLabError):
    """A data set that is missing, incomplete or not in the expected format."""


class WeightsError(CaptionLabError):
    """Encoder weights that are missing, unreachable or of another architecture."""


class StorageError(CaptionLabError):
    """A disk that is too small, or a stored file that is damaged."""


class RunError(CaptionLabError):
    """A run folder that cannot be used as asked."""


def printable(text: str) -> str:
    """Text that cannot move the cursor, change colours or turn the direction of what follows."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


# In errors without a class of their own, of torch on a CPU, of CUDA and of cuBLAS.
_OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")


def out_of_memory(error: BaseException) -> str | None:
    """The message for an out-of-memory error; None for any other error."""
    is_named = type(error).__name__ in ("MemoryError", "OutOfMemoryError")  # torch is not imported
    if not is_named and not any(text in str(error) for text in _OUT_OF_MEMORY):
        return None
    reason = " ".join(str(error).split()) or "no more is known"
    return (
        f"out of memory ({reason:.120}); use a smaller data.batch_size, data.eval_batch_size, "
        "search.beam_size or decoder."
    )
