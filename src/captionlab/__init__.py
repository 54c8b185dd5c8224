"""captionlab: honest, cheap and restartable comparisons of image captioning models.

`captionlab.load` captions photos with a trained model; `captionlab.runs` reads results.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captionlab.captioner.photo_captioner import load
    from captionlab.reports.run_list import result_rows as runs

__all__ = ["__version__", "load", "runs"]

try:
    __version__ = version("captionlab")
except PackageNotFoundError:  # a checkout on the path that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is first asked for."""
    if name == "load":
        from captionlab.captioner.photo_captioner import load

        return load
    if name == "runs":
        return importlib.import_module("captionlab.runs")  # a package that can be called
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
