"""Features: images encoded once and stored, or encoded as they are asked for."""

from captionlab.features.builder import ImageEncoder
from captionlab.features.store import FeatureStore

__all__ = ["FeatureStore", "ImageEncoder"]
