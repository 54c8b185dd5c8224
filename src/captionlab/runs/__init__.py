"""Runs: a configuration in, a result on disk out."""
