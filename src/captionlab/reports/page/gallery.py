"""The gallery of the page: test photos, their references and the captions of every run."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from captionlab.corpora import CaptionedImage
from captionlab.corpora.datasets import CaptionDataset
from captionlab.errors import CaptionLabError, RunError
from captionlab.metrics import registry
from captionlab.options import make_part
from captionlab.reports.groups import Run, RunCaptions
from captionlab.reports.page.attention import read_attention
from captionlab.run_files import RunFiles

if TYPE_CHECKING:
    from captionlab.reports.comparison import Comparison

_SIDE = 256  # longer side of a thumbnail, in pixels
_QUALITY = 55  # 7 KB for a photo of Flickr8k


@dataclass(frozen=True)
class Gallery:
    """Photos and captions of runs on the same data.

    Attributes:
        facts: what the page says before it reads the rest.
        content: `runs`: group and seed of each; `images`: what was written about each.
        photos: per image a WebP thumbnail; None for a photo that is missing.
    """

    facts: dict[str, Any]
    content: dict[str, Any] = field(default_factory=dict)
    photos: Sequence[bytes | None] = ()


@dataclass
class _Captions:
    """What the runs wrote about one image."""

    score_of: dict[str, float] = field(default_factory=dict)  # caption to its ranking score
    caption_of: dict[int, str] = field(default_factory=dict)  # run to its caption
    attention: dict[str, Any] = field(default_factory=dict)  # caption to its best run's maps

    @property
    def scores(self) -> list[float]:
        return [self.score_of[caption] for caption in self.caption_of.values()]


def read_gallery(comparison: Comparison, num_photos: int) -> Gallery:
    """Captions from the run folders, references and photos from where the data set lies.

    Without the data set it has captions alone.

    Args:
        comparison: runs on the same data, at least one of them finished.
        num_photos: how many images are taken at most: in turn those on which the runs disagree
            most, the best and the worst.
    """
    runs = [(i, run) for i, group in enumerate(comparison.groups) for run in group.runs]
    captions, notes = _read_captions([run for _, run in runs])
    chosen = _choose(captions, num_photos)
    first = runs[0][1]
    dataset, images = None, dict[str, CaptionedImage]()
    try:
        dataset = _dataset(first)
        corpus = dataset.read_captions()
        images = {image.image_id: image for image in corpus.images}
        if corpus.fingerprint != first.corpus:
            notes.append(f"{dataset.root} has other captions or splits than the runs saw.")
    except CaptionLabError as error:
        notes.append(f"References and photos are missing: {error}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        photos = list(pool.map(_thumbnail, [images.get(name) for name in chosen]))
    gone = [n for n, photo in zip(chosen, photos, strict=True) if photo is None and n in images]
    if gone:
        notes.append(f"{len(gone)} photos are missing or cannot be read, such as {gone[0]}.")
    facts = {"shown": len(chosen), "total": len(captions), "notes": notes}
    content = {
        "runs": [[group, str(run.seed)] for group, run in runs],
        "images": [_entry(name, captions[name], images.get(name), dataset) for name in chosen],
    }
    return Gallery(facts, content, photos)


def _entry(
    name: str, captions: _Captions, image: CaptionedImage | None, dataset: CaptionDataset | None
) -> dict[str, Any]:
    """One image: each caption once, best first, with the runs that wrote it."""
    runs_of: dict[str, list[int]] = {}
    for run, caption in captions.caption_of.items():
        runs_of.setdefault(caption, []).append(run)
    entries = []
    for caption in sorted(runs_of, key=lambda c: -captions.score_of[c]):
        entry = {
            "text": caption,
            "score": round(captions.score_of[caption], 3),
            "runs": runs_of[caption],
        }
        if caption in captions.attention:
            entry["attention"] = captions.attention[caption]
        if image is not None and dataset is not None:
            claims = dataset.claims(name, caption).items()
            entry |= {"claims": kept} if (kept := {k: n for k, n in claims if n[1]}) else {}
        entries.append(entry)
    return {
        "id": name,
        "references": [] if image is None else image.captions,
        "captions": entries,
    }


def _read_captions(runs: Sequence[Run]) -> tuple[dict[str, _Captions], list[str]]:
    """Image id to captions, in the order of the first run; and which runs could not be read."""
    by_image: dict[str, _Captions] = {}
    notes = []
    for place, run in enumerate(runs):
        try:
            captions = run.captions
            attention = read_attention(RunFiles(run.folder).attention_path)
        except RunError as error:
            notes.append(f"The captions of {run.folder.name} are left out: {error}")
            continue
        rows = zip(captions.image_ids, captions.texts, _scores(captions), strict=True)
        for image_id, caption, score in rows:
            of_image = by_image.setdefault(image_id, _Captions())
            of_image.caption_of[place] = caption
            of_image.score_of[caption] = score
            if looked := attention.get((image_id, caption)):
                of_image.attention.setdefault(caption, {"run": place, **looked})
    return by_image, notes


def _scores(captions: RunCaptions) -> list[float]:
    """The ranking score of each image."""
    statistics = captions.statistics
    values = statistics.scores(statistics.columns, num_images=1)
    name = next((name for name in values if registry.is_ranking(name)), next(iter(values)))
    scores: list[float] = values[name].tolist()
    return scores


def _choose(captions: Mapping[str, _Captions], number: int) -> list[str]:
    """At most so many images, in the given order."""
    names = list(captions)
    if len(names) <= number:
        return names
    means = {name: fmean(captions[name].scores) for name in names}
    spreads = {name: pstdev(captions[name].scores) for name in names}
    disagreement = sorted(names, key=lambda name: -spreads[name])
    best = sorted(names, key=lambda name: -means[name])
    chosen: dict[str, None] = {}
    for turn in zip_longest(disagreement, best, reversed(best)):
        chosen |= dict.fromkeys(name for name in turn if len(chosen) < number)
        if len(chosen) >= number:
            break
    kept = list(chosen)[:number]
    return [name for name in names if name in set(kept)]


def _dataset(run: Run) -> CaptionDataset:
    """As the run's configuration has it.

    Raises:
        CaptionLabError: if it is not there, or this version of captionlab does not know it.
    """
    try:
        data, cache_dir = run.config["data"], Path(run.config["cache_dir"])
        dataset = make_part(data, CaptionDataset, cache_dir=cache_dir)
    except (KeyError, TypeError) as error:
        raise RunError(f"{run.folder.name} was made by another version of captionlab.") from error
    if not dataset.root.is_dir():
        raise RunError(f"there is no folder {dataset.root} any more.")
    return dataset


def _thumbnail(image: CaptionedImage | None) -> bytes | None:
    """A small copy, upright; None if there is no photo."""
    from PIL import Image, ImageOps

    if image is None:
        return None
    try:
        with Image.open(image.path) as opened:
            opened.draft("RGB", (_SIDE, _SIDE))  # a JPEG is decoded small
            photo = ImageOps.exif_transpose(opened)
            if photo.mode != "RGB":
                from captionlab.images.photos import read_image  # brings torch

                photo = read_image(image.path)
            photo.thumbnail((_SIDE, _SIDE), Image.Resampling.BICUBIC)
            file = io.BytesIO()
            photo.save(file, "WEBP", quality=_QUALITY, method=2)
    except Exception:  # Pillow's parsers raise many kinds for a damaged file
        return None
    return file.getvalue()
