"""Lightning data modules: splits, vocabulary, batches."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from captionlab.batches.collate import Item, ItemsWithPhotos, mirrored, pad_captions, pixel_batch
from captionlab.corpora.corpus import SPLITS, CaptionCorpus, Split
from captionlab.corpora.readers import read_corpus
from captionlab.corpora.shapes import ATTRIBUTES, check_caption, generate_shapes, read_scenes
from captionlab.corpora.usable import without_bad_photos
from captionlab.errors import DataError
from captionlab.features.store import FeatureStore, ImageEncoder, describe, prepare
from captionlab.images.augmentation import Augmentation, View, is_mirrored
from captionlab.images.photos import num_cores
from captionlab.images.pixels import Photos, pixel_batches
from captionlab.text import Tokenizer, Vocabulary, mirror_words
from captionlab.types import CaptionBatch, FeatureShape, ImageFeatures, PixelBatch

log = logging.getLogger(__name__)

Batch = CaptionBatch | PixelBatch
_POOL = 50  # batches that are sorted together by length


class CaptionDataModule(pl.LightningDataModule):
    """Batches of one data set: features of a frozen encoder, or pixels for one that is trained.

    Args:
        root: folder of the data set.
        encoder: if frozen, run once for each image, ever; if trained, only loaded. None where only
            the corpus is wanted.
        tokenizer: of captions.
        min_count: a word seen fewer times in training captions is unknown.
        max_vocabulary: most words, special ones included; None for no limit.
        max_caption_length: training captions are cut after so many words.
        batch_size: images per training batch, each with all its captions.
        eval_batch_size: images per validation and test batch.
        num_workers: processes that read photos; None for a quarter of the cores, for all but one
            where another device encodes, and for at most 8.
        feature_dir: where encoded images are kept.
        encode_batch_size: images encoded at once.
        device: where the encoder runs.
        autocast_dtype: in which it computes; None for float32.
        seed: of the order of training images.
        augmentation: other views of training photos, of which each epoch draws one; None for none.
        stored_features: `all`, or `pooled` for vectors without maps, which need a fraction of the
            disk and suffice for decoders that do not attend.
        group_by_length: batch training images whose longest captions are about as long.
        on_bad_image: `error` stops at a photo that cannot be read; `skip` leaves its image out,
            and the corpus says how many and which.

    Attributes:
        corpus: after `setup`.
        vocabulary: of the training captions, after `setup`.
        features: of all images, after `setup`; None where the encoder is trained.
        encoded: what the images are encoded by and what it cost, after `setup`: the manifest of
            `features`, or its like.
        feature_shape: of an image, after `setup`.
    """

    corpus: CaptionCorpus
    vocabulary: Vocabulary
    features: FeatureStore | None
    encoded: dict[str, Any]
    feature_shape: FeatureShape

    def __init__(
        self,
        *,
        root: str | Path,
        encoder: ImageEncoder | None,
        tokenizer: Tokenizer,
        min_count: int,
        max_vocabulary: int | None,
        max_caption_length: int,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int | None,
        feature_dir: Path,
        encode_batch_size: int,
        device: torch.device,
        autocast_dtype: torch.dtype | None,
        seed: int,
        augmentation: Augmentation | None = None,
        stored_features: str = "all",
        group_by_length: bool = False,
        on_bad_image: str = "error",
    ) -> None:
        super().__init__()
        self.root = Path(root).expanduser()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.min_count = min_count
        self.max_vocabulary = max_vocabulary
        self.max_caption_length = max_caption_length
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        # Beside an encoder on the CPU, more workers take its cores.
        spare = num_cores() // 4 if device.type == "cpu" else num_cores() - 1
        self.num_workers = min(spare, 8) if num_workers is None else num_workers
        self.feature_dir = feature_dir
        self.encode_batch_size = encode_batch_size
        self.device = device
        self.autocast_dtype = autocast_dtype
        self.seed = seed
        self.augmentation = augmentation
        self.stored_features = stored_features
        self.group_by_length = group_by_length
        self.views: list[FeatureStore] = []
        self.on_bad_image = on_bad_image
        self._captions: dict[Split, list[Item]] = {}

    @abstractmethod
    def read(self) -> CaptionCorpus:
        """The corpus below `root`."""

    def read_usable(self) -> CaptionCorpus:
        """The corpus below `root`, less the images that `on_bad_image` leaves out."""
        corpus = self.read()
        if self.on_bad_image == "error":
            return corpus
        return without_bad_photos(corpus, self.feature_dir, self.num_workers)

    def prepare_data(self) -> None:
        """Read or make the corpus and encode its images, once over all processes."""
        self._load()

    def setup(self, stage: str | None = None) -> None:
        """Build vocabulary and captions as ids; once, whatever the stage."""
        if self._captions:
            return
        self._load()
        tokenized = {
            split: {
                image.image_id: [self.tokenizer(caption) for caption in image.captions]
                for image in images
            }
            for split, images in self.corpus.splits.items()
        }
        training = [caption for captions in tokenized["train"].values() for caption in captions]
        self.vocabulary = Vocabulary.build(training, self.min_count, self.max_vocabulary)
        log.info(
            "vocabulary of %d words; it has %.1f %% of the running words of validation captions",
            len(self.vocabulary),
            100 * self.vocabulary.coverage(c for each in tokenized["val"].values() for c in each),
        )
        cut = sum(len(caption) > self.max_caption_length for caption in training)
        if cut:
            log.info(
                "%d of %d training captions are cut to %d words",
                cut,
                len(training),
                self.max_caption_length,
            )
        self._captions = {
            split: [(0, image, self._encode(captions)) for image, captions in images.items()]
            for split, images in tokenized.items()
        }
        for view in range(1, len(self._views()) + 1):
            for image, captions in tokenized["train"].items():
                told = [mirror_words(c) for c in captions] if is_mirrored(view) else captions
                self._captions["train"].append((view, image, self._encode(told)))

    def _encode(self, captions: Sequence[Sequence[str]]) -> list[list[int]]:
        return [self.vocabulary.encode(words[: self.max_caption_length]) for words in captions]

    def references(self, split: Split) -> dict[str, list[str]]:
        """Image id to captions as people wrote them."""
        return self.corpus.references(split)

    def open_features(self, corpus: CaptionCorpus, view: View | None = None) -> FeatureStore:
        """Features of a corpus, this one or another, encoded first where they are not yet."""
        assert self.encoder is not None, "made as a reader"
        return FeatureStore.open_or_build(
            self.feature_dir,
            corpus,
            self.encoder,
            batch_size=self.encode_batch_size,
            num_workers=self.num_workers,
            device=self.device,
            autocast_dtype=self.autocast_dtype,
            view=view,
            with_grid=self.stored_features == "all",
        )

    def truth(self, captions: Mapping[str, str]) -> dict[str, float]:
        """What the data set itself knows of captions: the share of claims that are true, by kind.

        Args:
            captions: image id to caption.

        Returns:
            Nothing, where all that is known of an image are its captions.
        """
        return {}

    def read_pixels(
        self, corpus: CaptionCorpus, image_ids: Iterable[str], batch_size: int
    ) -> Iterator[Tensor]:
        """Plain photos of a corpus, this one or another, in order, uint8 (B, 3, S, S)."""
        assert self.encoder is not None, "made as a reader"
        paths = {image.image_id: image.path for image in corpus.images}
        photos = Photos([(paths[i], None) for i in image_ids], self.encoder.preprocessing)
        return pixel_batches(photos, batch_size, self.num_workers)

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train", self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("val", self.eval_batch_size, shuffle=False)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test", self.eval_batch_size, shuffle=False)

    def transfer_batch_to_device(
        self, batch: Batch | str, device: torch.device, dataloader_idx: int
    ) -> Batch:
        if isinstance(batch, str):  # from a worker
            raise DataError(batch)
        return batch.to(device, non_blocking=True)

    def _load(self) -> None:
        if hasattr(self, "features"):
            return
        self.corpus = self.read_usable()
        self.corpus.require(*SPLITS)
        for note in self.corpus.notes:
            log.info("%s: %s", self.corpus.name, note)
        assert self.encoder is not None, "made as a reader"
        self.feature_shape = self.encoder.feature_shape
        if self.encoder.num_trained_parameters:
            told = describe(self.corpus, self.encoder)
            self.encoded = {"name": None, "encode_seconds": 0.0, **told}
            # On the CPU, from where Lightning takes it to each process's device.
            cpu = torch.device("cpu")
            prepare(self.encoder, self.corpus, cpu, self.encode_batch_size, self.num_workers)
            self.features = None
            return
        self.features = self.open_features(self.corpus)
        self.encoded = self.features.manifest
        self.views = [self.open_features(self.corpus, view) for view in self._views()]
        self.encoder = None  # its weights are no more needed

    def _views(self) -> list[View]:
        """Other views of training photos, from number 1 on."""
        if self.augmentation is None:
            return []
        return [View(self.augmentation, i) for i in range(1, self.augmentation.num_views + 1)]

    def _loader(self, split: Split, batch_size: int, shuffle: bool) -> DataLoader[Batch]:
        items = self._captions[split]
        num_views = 1 + len(self._views()) if split == "train" else 1
        num_images = len(items) // num_views
        lengths = [max(map(len, captions)) for _, _, captions in items[:num_images]]
        pool = _POOL * batch_size if shuffle and self.group_by_length else 1
        stored = self.features is not None
        loader: DataLoader[Batch] = DataLoader(
            items if stored else self._with_photos(items),  # type: ignore[arg-type]
            batch_size=batch_size,
            sampler=EpochSampler(num_images, self.seed, shuffle, num_views, lengths, pool),
            num_workers=0 if stored else self.num_workers,
            collate_fn=self._collate if stored else pixel_batch,
            # It draws a number per iterator, and a resumed training makes another number of these.
            generator=torch.Generator(),
            pin_memory=self.device.type == "cuda",
        )
        return loader

    def _with_photos(self, items: Sequence[Item]) -> ItemsWithPhotos:
        assert self.encoder is not None
        paths = {image.image_id: image.path for image in self.corpus.images}
        views = [None, *self._views()]
        photos = [(paths[image], views[view]) for view, image, _ in items]
        return ItemsWithPhotos(items, Photos(photos, self.encoder.preprocessing))

    def _collate(self, items: Sequence[Item]) -> CaptionBatch:
        image_ids = tuple(image for _, image, _ in items)
        return CaptionBatch(image_ids, self._read(items), pad_captions(items), mirrored(items))

    def _read(self, items: Sequence[Item]) -> ImageFeatures:
        assert self.features is not None
        if not any(view for view, _, _ in items):
            return self.features.read(image for _, image, _ in items)
        stores = [self.features, *self.views]
        found = [stores[view].read([image]) for view, image, _ in items]
        return ImageFeatures(
            torch.cat([each.grid for each in found]), torch.cat([each.pooled for each in found])
        )


class EpochSampler(Sampler[int]):
    """Each rank's share of the items, in an order that depends on seed and epoch alone.

    Args:
        num_items: of the data set.
        seed: of the order.
        shuffle: if not, items keep their order and no item is repeated to make the ranks' shares
            equal, so that evaluation counts nothing twice.
        num_views: of each item, of which an epoch draws one; view v of item i has the index
            v * num_items + i.
        lengths: of the items.
        pool: so many shuffled items at a time are sorted by length, so that a batch pads less;
            1 for none.
    """

    def __init__(
        self,
        num_items: int,
        seed: int,
        shuffle: bool,
        num_views: int = 1,
        lengths: Sequence[int] = (),
        pool: int = 1,
    ) -> None:
        self.num_items = num_items
        self.seed = seed
        self.shuffle = shuffle
        self.num_views = num_views
        self.lengths = lengths
        self.pool = pool
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rank, num_ranks = self._place()
        order = list(range(self.num_items))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.num_items, generator=generator).tolist()
            if self.pool > 1:
                order = self._grouped(order, generator)
            if self.num_views > 1:
                views = torch.randint(self.num_views, (self.num_items,), generator=generator)
                order = (views * self.num_items + torch.tensor(order)).tolist()
            order += order[: -len(order) % num_ranks]
        return iter(order[rank::num_ranks])

    def __len__(self) -> int:
        rank, num_ranks = self._place()
        if self.shuffle:
            return -(-self.num_items // num_ranks)
        return len(range(rank, self.num_items, num_ranks))

    def _grouped(self, order: list[int], generator: torch.Generator) -> list[int]:
        """Sort each pool by length, and shuffle its fiftieths, which are batches."""
        grouped = []
        for begin in range(0, len(order), self.pool):
            pool = sorted(order[begin : begin + self.pool], key=lambda item: self.lengths[item])
            size = self.pool // _POOL
            batches = [pool[i : i + size] for i in range(0, len(pool), size)]
            for i in torch.randperm(len(batches), generator=generator).tolist():
                grouped += batches[i]
        return grouped

    @staticmethod
    def _place() -> tuple[int, int]:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1


class FolderDataModule(CaptionDataModule):
    """Whatever captions and photos lie in a folder.

    Args:
        dialect: of `captionlab.corpora.readers`, or `auto`.
        split_seed: of splits that are drawn where the files give none.
        use_restval: whether Karpathy's `restval` joins training.
        others: as of `CaptionDataModule`.

    Attributes:
        corpus_name: None for the folder's.
    """

    corpus_name: str | None = None

    def __init__(
        self,
        *,
        dialect: str = "auto",
        split_seed: int = 0,
        use_restval: bool = True,
        **others: object,
    ) -> None:
        super().__init__(**others)  # type: ignore[arg-type]
        self.dialect = dialect
        self.split_seed = split_seed
        self.use_restval = use_restval

    def read(self) -> CaptionCorpus:
        return read_corpus(
            self.root,
            self.dialect,
            self.corpus_name,
            split_seed=self.split_seed,
            use_restval=self.use_restval,
            unpack_dir=self.feature_dir.parent / "photos",
        )


class Flickr8kDataModule(FolderDataModule):
    """Flickr8k in any dialect; the original release has official splits."""

    corpus_name = "flickr8k"


class Flickr30kDataModule(FolderDataModule):
    """Flickr30k in any dialect; Karpathy's JSON has the splits that papers use."""

    corpus_name = "flickr30k"


class COCODataModule(FolderDataModule):
    """COCO captions in any dialect; Karpathy's JSON has the splits that papers use."""

    corpus_name = "coco"


class ShapesDataModule(CaptionDataModule):
    """The embedded drawn scenes, made the first time they are asked for.

    Args:
        num_train: images of the training split.
        num_val: images of the validation split.
        num_test: images of the test split.
        image_size: side of an image, in pixels.
        generator_seed: of the scenes and captions.
        others: as of `CaptionDataModule`.
    """

    def __init__(
        self,
        *,
        num_train: int,
        num_val: int,
        num_test: int,
        image_size: int,
        generator_seed: int,
        **others: object,
    ) -> None:
        super().__init__(**others)  # type: ignore[arg-type]
        self.generator = (num_train, num_val, num_test, image_size, generator_seed)

    def read(self) -> CaptionCorpus:
        generate_shapes(self.root, *self.generator)
        return read_corpus(self.root, "flickr8k", "shapes")

    def truth(self, captions: Mapping[str, str]) -> dict[str, float]:
        """The share of true claims by attribute, and of captions with no false claim as `all`."""
        scenes = read_scenes(self.root)
        checked = [check_caption(c.split(), scenes[image]) for image, c in captions.items()]
        shares = {"all": fmean(all(t == n for t, n in each.values()) for each in checked)}
        for attribute in ATTRIBUTES:
            true = sum(each[attribute][0] for each in checked)
            if claims := sum(each[attribute][1] for each in checked):
                shares[attribute] = true / claims
        return shares
