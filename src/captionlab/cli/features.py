"""`captionlab features`: list, verify or remove stored features."""

from __future__ import annotations

import argparse
from pathlib import Path

from captionlab.cli.terminal import Commands, open_console
from captionlab.errors import StorageError


def add_parser(commands: Commands) -> None:
    """Add the commands and their arguments."""
    parser = commands.add_parser("features", help="list, verify or remove stored features")
    parts = parser.add_subparsers(required=True, metavar="COMMAND")
    list_ = parts.add_parser("list", help="stored features on disk, complete or not")
    verify = parts.add_parser("verify", help="read every byte; exit status 1 if any is damaged")
    remove = parts.add_parser("remove", help="remove stored features")
    remove.add_argument("name", metavar="NAME", help="as `captionlab features list` shows it")
    for part, command in ((list_, run_list), (verify, run_verify), (remove, run_remove)):
        part.set_defaults(command=command)
        part.add_argument(
            "--cache-dir", type=Path, default=Path("data"), metavar="FOLDER", help="default: data"
        )


def run_list(options: argparse.Namespace) -> None:
    """Print one line per store."""
    from captionlab.features.inventory import list_stores
    from captionlab.reports.stored_features import print_stores

    root = options.cache_dir / "features"
    print_stores(root, list_stores(root), open_console())


def run_verify(options: argparse.Namespace) -> int:
    """Print whether each store is whole; 1 if one is not."""
    from captionlab.features.inventory import list_stores, verify_store

    root = options.cache_dir / "features"
    num_damaged, stores = 0, list_stores(root)
    if not stores:
        raise StorageError(f"no stored features in {root}; name their folder by --cache-dir.")
    for store in stores:
        problem = verify_store(store)
        so_far = f" so far, {store.num_encoded} of {store.num_images} images"
        whole = "whole" if store.complete else "whole" + so_far
        print(f"{store.folder.name}: {problem or whole}")
        num_damaged += problem is not None
    if num_damaged:
        print(f"remove them by `captionlab features remove NAME --cache-dir {options.cache_dir}`")
    return 1 if num_damaged else 0


def run_remove(options: argparse.Namespace) -> None:
    """Remove one store."""
    from captionlab.features.inventory import remove_store

    removed = remove_store(options.cache_dir / "features", options.name)
    print(f"removed: {removed.folder} ({removed.num_bytes / 1e9:.2f} GB)")
