"""The feature stores on disk as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from captionlab.features.inventory import StoredFeatures


def print_stores(root: Path, stores: Sequence[StoredFeatures], console: Console) -> None:
    """Print a row per store, and what they take in all."""
    if not stores:
        console.print(f"no encoded images in {root}", markup=False)
        return
    total = sum(store.num_bytes for store in stores) / 1e9
    table = Table(title=f"{root}: {total:.2f} GB", title_justify="left")
    table.add_column("name", overflow="fold")
    for title in ("images", "GB"):
        table.add_column(title, justify="right")
    table.add_column("encoder", overflow="fold")
    table.add_column("state", overflow="fold")
    for store in stores:
        done = f"{store.num_encoded:,} of {store.num_images:,} images"
        table.add_row(
            store.folder.name,
            f"{store.num_images:,}",
            f"{store.num_bytes / 1e9:.2f}",
            store.encoder,
            "complete" if store.complete else done,
        )
    console.print(table)
