"""Captioner: a checkpoint in, captions of anything out."""
