"""`captionlab wandb workspace`: a page in Weights & Biases that shows what our runs log there."""

from __future__ import annotations

import argparse

from captionlab.cli.terminal import Commands


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
    """Save the workspace and print its address.

    Raises:
        ConfigError: if a package or the login is missing, or W&B refuses it.
    """
    from captionlab.reports.wandb_workspace import save_workspace

    print(save_workspace(options.project, options.entity, options.group))
