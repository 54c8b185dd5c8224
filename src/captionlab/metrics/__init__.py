"""What captions are worth: the metrics of the field, as everybody else computes them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captionlab.metrics.caption_metrics import CaptionMetrics

__all__ = ["CaptionMetrics"]


def __getattr__(name: str) -> Any:
    """Import torch only for those who score; reports, which resample, do without it."""
    if name in __all__:
        from captionlab.metrics import caption_metrics

        return getattr(caption_metrics, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
