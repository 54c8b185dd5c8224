"""Errors that a user can mend; the command line prints their one line and no stack trace."""


class CaptionLabError(Exception):
    """A mistake in a path, a file, an option or the machine, told in one or two lines.

    The message says what was wrong, what was found, what is allowed and what to do next.
    """


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
