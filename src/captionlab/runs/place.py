"""Which run of a sweep a process is, handed from the sweep to its runs."""

from __future__ import annotations

import os
from dataclasses import dataclass

from captionlab.progress import duration

PLACE_VARIABLE = "CAPTIONLAB_SWEEP_PLACE"


@dataclass(frozen=True)
class SweepPlace:
    """A run among those of its sweep.

    Attributes:
        number: from 1 on.
        num_runs: of the sweep, those included that have a result already.
        num_waiting: runs that start after this one.
        mean_seconds: of the runs that this sweep has trained so far; 0 before the first.
    """

    number: int
    num_runs: int
    num_waiting: int
    mean_seconds: float

    @classmethod
    def of_this_process(cls) -> SweepPlace | None:
        """From the environment; None for a run that no sweep started."""
        if PLACE_VARIABLE not in os.environ:
            return None
        number, num_runs, num_waiting, mean_seconds = os.environ[PLACE_VARIABLE].split()
        return cls(int(number), int(num_runs), int(num_waiting), float(mean_seconds))

    def __str__(self) -> str:
        return f"{self.number} {self.num_runs} {self.num_waiting} {self.mean_seconds:.1f}"

    def header(self, elapsed: float, left: float | None) -> str:
        """Number of the run, and about how long the sweep will still take.

        Args:
            elapsed: seconds since the run began.
            left: seconds of training that are left; None where it is not known.
        """
        name = f"run {self.number} of {self.num_runs}"
        if left is None and not self.mean_seconds:
            return name
        each = self.mean_seconds or elapsed + (left or 0.0)
        own = max(0.0, each - elapsed) if left is None else left
        return f"{name}, about {duration(own + self.num_waiting * each)} left for all"
