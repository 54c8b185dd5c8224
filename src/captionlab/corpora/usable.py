"""A corpus without the images whose photos cannot be read."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from captionlab.corpora.corpus import SPLITS, CaptionCorpus
from captionlab.files import make_once, write_json

log = logging.getLogger(__name__)


def without_bad_photos(corpus: CaptionCorpus, folder: Path, num_workers: int) -> CaptionCorpus:
    """The corpus without the images whose photo cannot be read; its name and notes count them.

    All photos are decoded the first time; the list of bad ones is kept in `folder` until a photo's
    size or time changes, so that the runs of a sweep do not decode them again.

    Args:
        corpus: any.
        folder: of the list; created if it does not exist.
        num_workers: processes that decode.

    Raises:
        DataError: if a split would have no image.
    """
    from captionlab.images.photos import examine_photos  # late: it imports torch

    state = json.dumps([corpus.fingerprint, [_state(image.path) for image in corpus.images]])
    record = folder / f".bad-{corpus.name}-{hashlib.sha256(state.encode()).hexdigest()[:12]}.json"

    def make() -> None:
        log.info("decoding %d photos to find the unreadable ones", len(corpus.images))
        outcomes = examine_photos([image.path for image in corpus.images], num_workers)
        pairs = zip(corpus.images, outcomes, strict=True)
        write_json(record, {image.image_id: reason for image, (reason, _) in pairs if reason})

    make_once(record, make, record.with_suffix(".owner"))
    bad = json.loads(record.read_text())
    if not bad:
        return corpus
    splits = {
        split: tuple(image for image in corpus.splits[split] if image.image_id not in bad)
        for split in SPLITS
    }
    lost = [f"{len(corpus.splits[s]) - len(splits[s])} of {s}" for s in SPLITS]
    note = f"{len(bad)} images were left out ({', '.join(lost)}), since on_bad_image=skip"
    return replace(
        corpus,
        name=f"{corpus.name}-less-{len(bad)}",  # its scores are not those of the whole
        splits=splits,
        notes=(*corpus.notes, note, *bad.values()),
    )


def _state(path: Path) -> list[Any]:
    if not path.exists():
        return [path.name]
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]
