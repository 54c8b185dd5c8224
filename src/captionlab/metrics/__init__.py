"""What captions are worth: the metrics of the field, as everybody else computes them."""

from captionlab.metrics.metrics import CaptionMetrics, MetricName

__all__ = ["CaptionMetrics", "MetricName"]
