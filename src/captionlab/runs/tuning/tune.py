"""A search from its command line to the table of its best trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from annotated_types import Ge, Lt
from optuna.trial import TrialState

from captionlab.errors import CaptionLabError, ConfigError
from captionlab.files import is_full, unwritable
from captionlab.metrics.registry import find_score
from captionlab.options import Count, check_options, options_of
from captionlab.reports.table import Column, Row, Table
from captionlab.run_files import RunFiles
from captionlab.runs.stopping import Stopped
from captionlab.runs.tuning.plan import Plan, read_plan, shown
from captionlab.runs.tuning.search import Search, best_epoch
from captionlab.runs.tuning.study import Study

_NUM_BEST = 10  # trials in the table
_ENOUGH = 10  # trials with a score, to say anything of the importance of options


def tune(
    words: Sequence[str],
    print_table: Callable[[Table], object],
    *,
    trials: Count,
    workers: Count,
    seed: Annotated[int, Ge(0), Lt(2**31)],  # Optuna's, to which trials are added
    prune: bool,
    config_dir: str | None,
) -> None:
    """Search, then test the best trial and say how to confirm it.

    Args:
        words: overrides, with the space.
        print_table: on the terminal.
        trials: of the search, over all its processes and attempts.
        workers: trials at a time in this process.
        seed: of the draws.
        prune: whether trials end early whose validation scores fall behind.
        config_dir: folder of the user's own groups and options.

    Raises:
        CaptionLabError: in one or two lines.
    """
    given = {"trials": trials, "workers": workers, "seed": seed}
    check_options("--", options_of(tune), given, all_of_them=False)
    plan = read_plan(words, config_dir)
    try:
        study = Study(plan.folder, plan.space, plan.identity, seed)
        _search(plan, study, Search(plan, study, trials, workers, prune), print_table)
    except OSError as error:
        if not is_full(error):
            raise
        raise unwritable(plan.folder, error) from error


def _search(
    plan: Plan, study: Study, search: Search, print_table: Callable[[Table], object]
) -> None:
    try:
        search.run()
    except (Stopped, CaptionLabError):
        _print_trials(plan, study, print_table)
        raise
    running = sum(trial.state is TrialState.RUNNING for trial in study.trials())
    best = study.complete_trials()[:1]
    if running or not best:
        _print_trials(plan, study, print_table)
        if running:
            print(f"{running} still running in other processes; the last one tests the best trial.")
            return
        raise ConfigError("no trial has a score; see the reasons above, and widen the space.")
    folder = search.test(best[0])
    _print_trials(plan, study, print_table)
    print(f"best run: {folder.path}")
    print("The best of many scores is optimistic. Confirm it with seeds that were not searched:")
    print(f"  {plan.confirmation(best[0].params)}")


def _print_trials(plan: Plan, study: Study, print_table: Callable[[Table], object]) -> None:
    """The best trials, why others have no score, and which options mattered."""
    score = find_score(plan.monitor.removeprefix("val/"))
    complete = study.complete_trials()
    columns = [Column("trial"), Column(f"val {score.title}"), Column("epoch", priority=1)]
    columns += [Column(d.key, is_text=bool(d.choices)) for d in plan.space]
    rows = []
    for trial in complete[:_NUM_BEST]:
        best = best_epoch(RunFiles(plan.folder / trial.user_attrs["run"]), plan.monitor)
        values = [shown(trial.params[d.key]) for d in plan.space]
        assert trial.value is not None
        points = f"{score.scale * trial.value:.1f}"
        rows.append(
            Row([str(trial.number + 1), points, "" if best is None else str(best[0] + 1), *values])
        )
    if rows:
        print_table(Table("Best trials", columns, rows))
    counts = {
        "complete": len(complete),
        "pruned": sum(t.state is TrialState.PRUNED for t in study.trials()),
        "failed": sum(t.state is TrialState.FAIL for t in study.trials()),
    }
    print(", ".join(f"{number} {name}" for name, number in counts.items()) + f", in {plan.folder}")
    for trial in study.trials():
        if trial.state is TrialState.FAIL:
            print(f"  trial {trial.number + 1}: {trial.user_attrs.get('reason')}")
    if len(complete) >= _ENOUGH and len(plan.space) > 1:
        parts = [f"{name} {value:.2f}" for name, value in study.importances().items()]
        print(f"importance (PED-ANOVA): {', '.join(parts)}")
