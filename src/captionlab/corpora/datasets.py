"""Data sets on disk, to be read into a `CaptionCorpus`; torch is not imported here."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

from annotated_types import Ge

from captionlab import __version__
from captionlab.corpora.corpus import CaptionCorpus
from captionlab.corpora.limit import limited
from captionlab.corpora.readers import check_dialect, dialects, read_corpus
from captionlab.corpora.readers.tree import PHOTO_FOLDERS, Tree
from captionlab.corpora.shapes import (
    ATTRIBUTES,
    NUM_REFERENCES,
    Scene,
    check_caption,
    generate_shapes,
    read_scenes,
    recipe,
)
from captionlab.corpora.usable import without_bad_photos
from captionlab.errors import DataError
from captionlab.files import remember, size_of
from captionlab.options import Count, Derived, Natural

log = logging.getLogger(__name__)

Limit = Annotated[int, Ge(10)] | None
TrainLimit = Annotated[int, Ge(1)] | None
OnBadImage = Literal["error", "skip"]
# A file may change twice within the resolution of its time; FAT has the coarsest, 2 seconds.
_CLOCK_NANOSECONDS = 2_000_000_000
_SAMPLED = 16  # photos: asking for the size of each takes minutes on a network disk


class CaptionDataset(ABC):
    """A data set on disk.

    A subclass implements `read_all`; it may identify its content faster than by reading it, and
    may know more of its images than their captions.

    Args:
        root: folder of the data set.
        on_bad_image: `error` stops at a photo that cannot be read; `skip` leaves its image out,
            and the corpus says how many and which.
        limit: how many images of all splits are used, for a quick trial; null for all. Names and
            tables say that it is a part.
        train_limit: how many images of the training split are trained on, to draw a learning
            curve; null for all. A larger number adds images; validation, test and the stored
            features stay those of all images.
        cache_dir: folder for what is derived from the data set; None for a hidden one in `root`.
        num_workers: processes that decode photos to find the unreadable ones.

    Attributes:
        needs_photos: whether an image without its photo is an error; not where features are given.
    """

    needs_photos = True

    def __init__(
        self,
        root: str | Path,
        on_bad_image: OnBadImage = "error",
        limit: Limit = None,
        train_limit: TrainLimit = None,
        *,
        cache_dir: Annotated[Path | None, Derived] = None,
        num_workers: Annotated[int, Derived] = 0,
    ) -> None:
        self.limit = limit
        self.train_limit = train_limit
        self.root = Path(root).expanduser()
        self.on_bad_image = on_bad_image
        self.cache_dir = self.root / ".captionlab" if cache_dir is None else cache_dir
        self.num_workers = num_workers

    @abstractmethod
    def read_all(self) -> CaptionCorpus:
        """The corpus, whatever photos can be decoded.

        Raises:
            DataError: if the files are missing or damaged.
        """

    def read_captions(self) -> CaptionCorpus:
        """As `read`, of a data set that may have lost photos; nothing is generated or decoded.

        Raises:
            DataError: if the captions are missing or damaged.
        """
        return self._part(self.read_all())

    def identity(self) -> dict[str, Any]:
        """Names the captions and splits of `read_all`, in JSON types, wherever the files lie.

        Raises:
            DataError: as `read_all`.
        """
        return {"corpus": self.read_all().fingerprint}

    def read(self) -> CaptionCorpus:
        """The corpus, less the images that the limits and `on_bad_image` leave out.

        Raises:
            DataError: if the files are missing or damaged.
        """
        corpus = self._part(self.read_all())
        for note in corpus.notes:
            log.info("%s", note)
        if self.on_bad_image == "error" or not self.needs_photos:
            return corpus
        return without_bad_photos(corpus, self.cache_dir / "features", self.num_workers)

    def _part(self, corpus: CaptionCorpus) -> CaptionCorpus:
        return limited(corpus, self.limit, self.train_limit)

    def truth(self, captions: Mapping[str, str]) -> dict[str, float]:
        """Share of the captions' claims that are true of the known scenes, in [0, 1], by kind.

        Args:
            captions: image id to caption.

        Returns:
            Nothing, where all that is known of an image are its captions.
        """
        return {}

    def claims(self, image_id: str, caption: str) -> dict[str, tuple[int, int]]:
        """Kind of claim to how many of a caption's claims are true of the known scene, of all.

        Args:
            image_id: of the corpus.
            caption: words joined by spaces.

        Returns:
            Nothing, where no scene is known.
        """
        return {}


class Shapes(CaptionDataset):
    """The embedded drawn scenes, generated in a folder of `root` when they are first read.

    The folder's name tells one recipe from another, so that runs on several may go on at once.

    Args:
        num_train: images of the training split.
        num_val: images of the validation split.
        num_test: images of the test split.
        image_size: side of an image, in pixels.
        generator_seed: of scenes and captions.
        num_captions: of each training image; the others have five.
    """

    def __init__(
        self,
        root: str | Path,
        num_train: Count,
        num_val: Count,
        num_test: Count,
        image_size: Count,
        generator_seed: Natural,
        num_captions: Count = NUM_REFERENCES,
        on_bad_image: OnBadImage = "error",
        limit: Limit = None,
        train_limit: TrainLimit = None,
        *,
        cache_dir: Annotated[Path | None, Derived] = None,
        num_workers: Annotated[int, Derived] = 0,
    ) -> None:
        super().__init__(
            root,
            on_bad_image,
            limit,
            train_limit,
            cache_dir=cache_dir,
            num_workers=num_workers,
        )
        self._arguments = (num_train, num_val, num_test, image_size, generator_seed, num_captions)
        self._recipe = recipe(*self._arguments)
        digest = hashlib.sha256(json.dumps(self._recipe).encode()).hexdigest()
        self.folder = self.root / digest[:12]

    def read_all(self) -> CaptionCorpus:
        self._require_own_root()
        generate_shapes(self.folder, *self._arguments)
        return read_corpus(self.folder, "flickr8k", "shapes")

    def read_captions(self) -> CaptionCorpus:
        if not self.folder.exists():
            raise DataError(f"{self.root} does not hold the drawings that this recipe makes.")
        corpus = read_corpus(self.folder, "flickr8k", "shapes", needs_photos=False)
        return self._part(corpus)

    def identity(self) -> dict[str, Any]:
        self._require_own_root()
        return {"shapes": self._recipe}

    def _require_own_root(self) -> None:
        """Nothing is written into a folder of somebody's own photos."""
        others = [
            path
            for path in self.root.glob("[!.]*")
            if path.name in PHOTO_FOLDERS or (path.is_file() and path.suffix != ".yaml")
        ]
        if others and not (self.root / "generator.json").exists():  # a recipe's own, once
            raise DataError(
                f"data.root={self.root} holds other files than data=shapes makes; "
                "add data=captions for captions of your own, or data=flickr8k, flickr30k or coco."
            )

    def truth(self, captions: Mapping[str, str]) -> dict[str, float]:
        """Share of true claims by attribute, and of captions without a false claim as `all`."""
        claims = [self.claims(image, caption) for image, caption in captions.items()]
        shares = {"all": fmean(all(t == n for t, n in c.values()) for c in claims)}
        for attribute in ATTRIBUTES:
            num_true = sum(c[attribute][0] for c in claims)
            if num_claims := sum(c[attribute][1] for c in claims):
                shares[attribute] = num_true / num_claims
        return shares

    def claims(self, image_id: str, caption: str) -> dict[str, tuple[int, int]]:
        return check_caption(caption.split(), self._scenes[image_id])

    @cached_property
    def _scenes(self) -> dict[str, Scene]:
        return read_scenes(self.folder)


class CaptionFolder(CaptionDataset):
    """A folder with captions and photos, in any form that `captionlab.corpora.readers` knows.

    Args:
        dialect: name of the reader, or `auto` to detect the form from the contents.
        split_seed: of splits that are drawn where the files give none.

    Attributes:
        corpus_name: name of the corpus; None for the folder's.

    Raises:
        DataError: if there is no reader of that name.
    """

    corpus_name: str | None = None
    use_restval = True

    def __init__(
        self,
        root: str | Path,
        dialect: str = "auto",
        split_seed: Natural = 0,
        on_bad_image: OnBadImage = "error",
        limit: Limit = None,
        train_limit: TrainLimit = None,
        *,
        cache_dir: Annotated[Path | None, Derived] = None,
        num_workers: Annotated[int, Derived] = 0,
    ) -> None:
        super().__init__(
            root,
            on_bad_image,
            limit,
            train_limit,
            cache_dir=cache_dir,
            num_workers=num_workers,
        )
        check_dialect(dialect)
        self.dialect = dialect
        self.split_seed = split_seed

    def read_all(self) -> CaptionCorpus:
        return self._read(self.needs_photos)

    def read_captions(self) -> CaptionCorpus:
        return self._part(self._read(needs_photos=False))

    def _read(self, needs_photos: bool) -> CaptionCorpus:
        return read_corpus(
            self.root,
            self.dialect,
            self.corpus_name,
            split_seed=self.split_seed,
            use_restval=self.use_restval,
            unpack_dir=self.cache_dir / "photos",
            needs_photos=needs_photos,
        )

    def identity(self) -> dict[str, Any]:
        """The corpus's fingerprint, and the sizes of some photos, which a resized copy changes.

        The fingerprint is kept in `cache_dir`, so that the captions are read again only after one
        of their files has changed. Where photos are not needed, their sizes do not matter.
        """
        digest, modified_at = self._state()
        record = self.cache_dir / ".fingerprints" / f"{digest}.json"
        if record.exists():
            known = json.loads(record.read_text(encoding="utf-8"))
        else:
            corpus = self.read_all()
            images = corpus.images
            sample = {i * (len(images) - 1) // (_SAMPLED - 1) for i in range(_SAMPLED)}
            photos = [os.path.relpath(images[i].path, self.root) for i in sorted(sample)]
            known = {"corpus": corpus.fingerprint, "photos": photos}
            if time.time_ns() - modified_at > _CLOCK_NANOSECONDS:
                remember(record, known)
        if not self.needs_photos:
            return {"corpus": known["corpus"]}
        paths = [self.root / name for name in known["photos"]]
        return {"corpus": known["corpus"], "photo_bytes": [size_of(path) for path in paths]}

    def _state(self) -> tuple[str, int]:
        """A hash of options, names, sizes and times of what readers read; the latest of the times.

        The time of the inode's change is among them: unlike that of the content it cannot be set
        back.
        """
        suffixes = {suffix for dialect in dialects().values() for suffix in dialect.suffixes}
        files: list[tuple[str, int, int, int]] = []
        for path in Tree(self.root).files(tuple(suffixes)):
            name = path.relative_to(self.root).as_posix()
            try:
                status = os.stat(path)
            except OSError:  # a link to nothing
                files.append((name, -1, 0, 0))
            else:
                files.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        state = [__version__, self.dialect, self.split_seed, self.use_restval, files]
        state += [] if self.needs_photos else ["without photos"]
        digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()
        return digest[:16], max((mtime for _, _, mtime, _ in files), default=0)


class Flickr8k(CaptionFolder):
    """Flickr8k in any form; the original release has official splits."""

    corpus_name = "flickr8k"


class Flickr30k(CaptionFolder):
    """Flickr30k in any form; Karpathy's JSON has the splits that papers use."""

    corpus_name = "flickr30k"


class COCO(CaptionFolder):
    """COCO captions in any form; Karpathy's JSON has the splits that papers use.

    Args:
        use_restval: whether Karpathy's `restval` joins training, as in papers.
    """

    corpus_name = "coco"

    def __init__(
        self,
        root: str | Path,
        dialect: str = "auto",
        split_seed: Natural = 0,
        use_restval: bool = True,
        on_bad_image: OnBadImage = "error",
        limit: Limit = None,
        train_limit: TrainLimit = None,
        *,
        cache_dir: Annotated[Path | None, Derived] = None,
        num_workers: Annotated[int, Derived] = 0,
    ) -> None:
        super().__init__(
            root,
            dialect,
            split_seed,
            on_bad_image,
            limit,
            train_limit,
            cache_dir=cache_dir,
            num_workers=num_workers,
        )
        self.use_restval = use_restval
