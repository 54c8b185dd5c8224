"""Evaluation: captions in, scores with intervals out."""
