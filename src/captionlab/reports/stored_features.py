"""The feature stores on disk as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from captionlab.features.inventory import StoreSummary
from captionlab.reports.table import Column, Row, Table


def print_stores(root: Path, stores: Sequence[StoreSummary], console: Console) -> None:
    """Print a row per store, and what they take in all."""
    if not stores:
        console.print(f"no stored features in {root}", markup=False)
        return
    total = sum(store.num_bytes for store in stores) / 1e9
    columns = [
        Column("name", is_text=True),
        Column("images"),
        Column("GB"),
        Column("encoder", is_text=True),
        Column("state", is_text=True),
    ]
    rows = []
    for store in stores:
        encoded = f"{store.num_encoded:,} of {store.num_images:,} images"
        state = "complete" if store.complete else encoded
        size = f"{store.num_bytes / 1e9:.2f}"
        rows.append(Row([store.folder.name, f"{store.num_images:,}", size, store.encoder, state]))
    Table(f"{root}: {total:.2f} GB", columns, rows).print(console)
