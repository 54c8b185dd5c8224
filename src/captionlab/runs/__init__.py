"""Runs: a configuration in, a run folder out. Called, this module reads what came of them."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any


class _Runs(ModuleType):
    """`captionlab.runs` is this package and, as the documentation has it, a function."""

    def __call__(self, folder: str | Path) -> list[dict[str, Any]]:
        """See `captionlab.reports.run_list.result_rows`."""
        from captionlab.reports.run_list import result_rows

        return result_rows(folder)


sys.modules[__name__].__class__ = _Runs
