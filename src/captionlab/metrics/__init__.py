"""What captions are worth: the metrics of the field, as everybody else computes them."""

from typing import TYPE_CHECKING, Any

from captionlab.metrics.scorer import CaptionScorer

if TYPE_CHECKING:
    from captionlab.metrics.caption_metrics import CaptionMetrics

__all__ = ["CaptionMetrics", "CaptionScorer"]


def __getattr__(name: str) -> Any:
    """Import torchmetrics only for training; whoever scores captions once does without it."""
    if name == "CaptionMetrics":
        from captionlab.metrics.caption_metrics import CaptionMetrics

        return CaptionMetrics
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
