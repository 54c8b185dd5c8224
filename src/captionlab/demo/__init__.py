"""A page on which to drop a photo and see what trained models say about it."""

from captionlab.demo.models import DemoModel, Example, read_examples
from captionlab.demo.server import DemoServer

__all__ = ["DemoModel", "DemoServer", "Example", "read_examples"]
