"""A corpus less the images whose photos cannot be read."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from captionlab.corpora.corpus import SPLITS, CaptionCorpus
from captionlab.files import write_json
from captionlab.images.photos import examine_photos

log = logging.getLogger(__name__)


def without_bad_photos(corpus: CaptionCorpus, folder: Path, num_workers: int) -> CaptionCorpus:
    """The corpus less the images whose photo cannot be read, which its name and notes count.

    All photos are decoded the first time; what was found is kept in `folder`, until a photo's
    size or time changes, so that the runs of a sweep do not decode them again.

    Args:
        corpus: any.
        folder: made if it is not there.
        num_workers: processes that decode.

    Raises:
        DataError: if a split would have no image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = json.dumps([corpus.fingerprint, [_state(image.path) for image in corpus.images]])
    kept = folder / f".bad-{corpus.name}-{hashlib.sha256(told.encode()).hexdigest()[:12]}.json"
    with FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            log.info("decoding %d photos to find the unreadable ones", len(corpus.images))
            reasons = examine_photos([image.path for image in corpus.images], num_workers)
            found = zip(corpus.images, reasons, strict=True)
            bad = {image.image_id: reason for image, (reason, _) in found if reason}
            write_json(kept, bad)
    bad = json.loads(kept.read_text())
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
    found = path.stat()
    return [path.name, found.st_size, found.st_mtime_ns]
