"""The comparison as one HTML page that opens from disk."""

from captionlab.reports.page.attention import write_attention
from captionlab.reports.page.page import render

__all__ = ["render", "write_attention"]
