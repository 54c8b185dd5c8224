"""`captionlab wandb workspace`: a page in Weights & Biases that shows what our runs log there."""

from __future__ import annotations

import argparse
import os
from typing import Any

from captionlab.cli.terminal import Commands
from captionlab.errors import ConfigError

SCORES = ("cider_d", "bleu_4", "meteor", "rouge_l")
CURVES = {
    "CIDEr-D, validation": ["val/cider_d"],
    "loss": ["train/loss_epoch", "val/loss"],
    "learning rate": ["lr-AdamW", "lr-Adam", "lr-SGD"],
}
COSTS = ("seconds_train", "seconds_encode", "parameters_decoder", "peak_memory_bytes")


def add_parser(commands: Commands) -> None:
    """Add the commands and their arguments."""
    parser = commands.add_parser("wandb", help="a workspace in Weights & Biases")
    inner = parser.add_subparsers(required=True, metavar="COMMAND")
    workspace = inner.add_parser(
        "workspace",
        help="make a workspace with the curves, scores, costs and captioned photos of runs",
        description="A saved view of a W&B project, made for what `logger=wandb` logs. It needs "
        "the network and a login. Each call makes a new view, and prints its address.",
    )
    workspace.set_defaults(command=run)
    workspace.add_argument(
        "--project", default="captionlab", help="that the runs were logged to: %(default)s"
    )
    workspace.add_argument("--entity", help="a user or team (default: the account's)")
    workspace.add_argument(
        "--group", help="runs of this group alone, which is the `name=` of a sweep"
    )


def run(options: argparse.Namespace) -> None:
    """Save the workspace.

    Raises:
        ConfigError: if a package or the login is missing, or W&B refuses it.
    """
    os.environ.pop("WANDB_MODE", None)  # a workspace lies on the server alone
    wandb, workspaces, _ = _import()
    try:
        entity = options.entity or wandb.Api().default_entity
        view = workspaces.Workspace(
            entity=entity,
            project=options.project,
            name=f"captionlab: {options.group or 'all runs'}",
            sections=_sections(),
            settings=workspaces.WorkspaceSettings(x_axis="epoch"),
            runset_settings=workspaces.RunsetSettings(
                filters=[workspaces.Metric("Group") == options.group] if options.group else [],
                order=[workspaces.Ordering(workspaces.Summary("test/cider_d"), ascending=False)],
                pinned_columns=[f"summary:test/{score}" for score in SCORES],
            ),
        )
        view.save()
    except (wandb.errors.Error, ValueError) as error:
        message = " ".join(str(error).split())
        raise ConfigError(
            f"W&B did not take the workspace of {options.project} ({message}); run `wandb login`, "
            "and make sure that --entity and --project name what the runs were logged to."
        ) from error
    print(view.url)


def _sections() -> list[Any]:
    _, workspaces, panels = _import()
    shown = {
        "Test scores": [
            panels.BarPlot(title=score, metrics=[panels.SummaryMetric(f"test/{score}")])
            for score in SCORES
        ],
        "Curves": [
            panels.LinePlot(title=title, x="epoch", y=names) for title, names in CURVES.items()
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
