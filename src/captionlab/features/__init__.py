"""Features: images encoded once and stored, or encoded as they are asked for."""

from captionlab.features.store import FeatureStore, ImageEncoder

__all__ = ["FeatureStore", "ImageEncoder"]
