"""`captionlab train`: one run or, with -m, a sweep; the same as `python run.py`."""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Train what the overrides ask for.

    Args:
        arguments: overrides and flags of Hydra.

    Returns:
        The exit status 0; a run or a sweep that failed exits by itself with 1.
    """
    from captionlab.runs.stopping import catch_signals, outlive_reader

    catch_signals()
    outlive_reader()
    from captionlab.runs.main import main  # brings Hydra and torch

    main(arguments)
    return 0
