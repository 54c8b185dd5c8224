"""Reports: runs on disk in, tables and plots out. Imports nothing heavy until it draws."""

from captionlab.reports.comparison import Comparison

__all__ = ["Comparison"]
