"""captionlab: honest, cheap and restartable comparisons of image captioning models."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("captionlab")
except PackageNotFoundError:  # a checkout on the path that was never installed
    __version__ = "0+unknown"
