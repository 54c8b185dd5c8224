"""A workspace of Weights & Biases for what `logger=wandb` logs."""

from __future__ import annotations

import os
from typing import Any

from captionlab.errors import ConfigError
from captionlab.metrics.protocol import Score
from captionlab.metrics.registry import most_important, scores

_NUM_SCORES = 4
COSTS = ("seconds_train", "seconds_encode", "parameters_decoder", "peak_memory_bytes")


def save_workspace(project: str, entity: str | None, group: str | None) -> str:
    """Save a new view of a project: test scores, curves, captioned photos and costs.

    Args:
        project: that the runs were logged to.
        entity: user or team; None for the account's.
        group: shows its runs alone; None for all.

    Returns:
        Its address.

    Raises:
        ConfigError: if a package or the login is missing, or W&B refuses it.
    """
    os.environ.pop("WANDB_MODE", None)  # a workspace lies on the server alone
    wandb, workspaces, _ = _import()
    try:
        entity = entity or wandb.Api().default_entity
        view = workspaces.Workspace(
            entity=entity,
            project=project,
            name=f"captionlab: {group or 'all runs'}",
            sections=_sections(),
            settings=workspaces.WorkspaceSettings(x_axis="epoch"),
            runset_settings=workspaces.RunsetSettings(
                filters=[workspaces.Metric("Group") == group] if group else [],
                order=[
                    workspaces.Ordering(
                        workspaces.Summary(f"test/{shown_scores()[0].name}"), ascending=False
                    )
                ],
                pinned_columns=[f"summary:test/{score.name}" for score in shown_scores()],
            ),
        )
        view.save()
    except (wandb.errors.Error, ValueError) as error:
        message = " ".join(str(error).split())
        raise ConfigError(
            f"W&B did not take the workspace of {project} ({message}); run `wandb login`, "
            "and make sure that --entity and --project name what the runs were logged to."
        ) from error
    return str(view.url)


def shown_scores() -> list[Score]:
    """Of the test, the one that systems are ranked by first."""
    return most_important([score.name for score in scores()], _NUM_SCORES)


def curves() -> dict[str, list[str]]:
    """Titles and what they show."""
    return {
        "validation score": [f"val/{shown_scores()[0].name}"],
        "loss": ["train/loss_epoch", "val/loss"],
        "learning rate": ["lr-AdamW", "lr-Adam", "lr-SGD"],
    }


def _sections() -> list[Any]:
    _, workspaces, panels = _import()
    shown = {
        "Test scores": [
            panels.BarPlot(title=score.title, metrics=[panels.SummaryMetric(f"test/{score.name}")])
            for score in shown_scores()
        ],
        "Curves": [
            panels.LinePlot(title=title, x="epoch", y=names) for title, names in curves().items()
        ],
        "Captions": [
            panels.WeavePanelSummaryTable(table_name="test/photos"),
            panels.MediaBrowser(media_keys=["test/samples"]),
        ],
        "Costs": [
            panels.BarPlot(title=cost, metrics=[panels.SummaryMetric(f"cost/{cost}")])
            for cost in COSTS
        ],
    }
    return [
        workspaces.Section(name=name, panels=section, is_open=True)
        for name, section in shown.items()
    ]


def _import() -> tuple[Any, Any, Any]:
    try:
        import wandb
        from wandb_workspaces import workspaces
        from wandb_workspaces.reports import v2
    except ImportError as error:
        raise ConfigError(
            f"`captionlab wandb` needs the package {error.name}, which is not installed; "
            "run `python -m pip install 'captionlab[wandb]'`."
        ) from error
    return wandb, workspaces, v2
