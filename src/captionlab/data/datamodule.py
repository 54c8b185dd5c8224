"""Lightning data modules: splits, vocabulary, batches."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler

from captionlab.data.corpus import SPLITS, CaptionCorpus, Split
from captionlab.data.feature_store import FeatureStore, ImageEncoder
from captionlab.data.readers import read_corpus
from captionlab.data.shapes import ATTRIBUTES, check_caption, generate_shapes, read_scenes
from captionlab.text import Tokenizer, Vocabulary
from captionlab.types import PAD_ID, CaptionBatch

log = logging.getLogger(__name__)

_Item = tuple[str, list[list[int]]]  # image id, its captions as ids


class CaptionDataModule(pl.LightningDataModule):
    """Batches of one data set, its images encoded by a frozen encoder.

    Args:
        root: folder of the data set.
        encoder: frozen; run once for each image, ever. None where only the corpus is wanted.
        tokenizer: of captions.
        min_count: a word seen fewer times in training captions is unknown.
        max_vocabulary: most words, special ones included; None for no limit.
        max_caption_length: training captions are cut after so many words.
        batch_size: images per training batch, each with all its captions.
        eval_batch_size: images per validation and test batch.
        num_workers: processes that read photos while encoding; None for a quarter of the cores,
            for all but one where another device encodes, and for at most 8.
        feature_dir: where encoded images are kept.
        encode_batch_size: images encoded at once.
        device: where the encoder runs.
        autocast_dtype: in which it computes; None for float32.
        seed: of the order of training images.

    Attributes:
        corpus: after `setup`.
        vocabulary: of the training captions, after `setup`.
        features: of all images, after `setup`.
    """

    corpus: CaptionCorpus
    vocabulary: Vocabulary
    features: FeatureStore

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
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        # Beside an encoder on the CPU, more workers take its cores.
        spare = (cores or 1) // 4 if device.type == "cpu" else (cores or 1) - 1
        self.num_workers = min(spare, 8) if num_workers is None else num_workers
        self.feature_dir = feature_dir
        self.encode_batch_size = encode_batch_size
        self.device = device
        self.autocast_dtype = autocast_dtype
        self.seed = seed
        self._captions: dict[Split, list[_Item]] = {}

    @abstractmethod
    def read(self) -> CaptionCorpus:
        """The corpus below `root`."""

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
            split: [
                (image, [self.vocabulary.encode(c[: self.max_caption_length]) for c in captions])
                for image, captions in images.items()
            ]
            for split, images in tokenized.items()
        }

    def references(self, split: Split) -> dict[str, list[str]]:
        """Image id to captions as people wrote them."""
        return self.corpus.references(split)

    def open_features(self, corpus: CaptionCorpus) -> FeatureStore:
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
        )

    def truth(self, captions: Mapping[str, str]) -> dict[str, float]:
        """What the data set itself knows of captions: the share of claims that are true, by kind.

        Args:
            captions: image id to caption.

        Returns:
            Nothing, where all that is known of an image are its captions.
        """
        return {}

    def train_dataloader(self) -> DataLoader[CaptionBatch]:
        return self._loader("train", self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[CaptionBatch]:
        return self._loader("val", self.eval_batch_size, shuffle=False)

    def test_dataloader(self) -> DataLoader[CaptionBatch]:
        return self._loader("test", self.eval_batch_size, shuffle=False)

    def transfer_batch_to_device(
        self, batch: CaptionBatch, device: torch.device, dataloader_idx: int
    ) -> CaptionBatch:
        return batch.to(device, non_blocking=True)

    def _load(self) -> None:
        if hasattr(self, "features"):
            return
        self.corpus = self.read()
        self.corpus.require(*SPLITS)
        for note in self.corpus.notes:
            log.info("%s: %s", self.corpus.name, note)
        self.features = self.open_features(self.corpus)
        del self.encoder  # its weights are no more needed

    def _loader(self, split: Split, batch_size: int, shuffle: bool) -> DataLoader[CaptionBatch]:
        items = self._captions[split]
        loader: DataLoader[CaptionBatch] = DataLoader(
            items,  # type: ignore[arg-type]
            batch_size=batch_size,
            sampler=EpochSampler(len(items), self.seed, shuffle),
            collate_fn=self._collate,
            # It draws a number per iterator, and a resumed training makes another number of these.
            generator=torch.Generator(),
            pin_memory=self.device.type == "cuda",
        )
        return loader

    def _collate(self, items: Sequence[_Item]) -> CaptionBatch:
        image_ids = tuple(image for image, _ in items)
        num_captions = max(len(captions) for _, captions in items)
        rows: list[Tensor] = []
        for _, captions in items:
            rows += [torch.tensor(caption) for caption in captions]
            rows += [torch.zeros(0, dtype=torch.int64)] * (num_captions - len(captions))
        tokens = pad_sequence(rows, batch_first=True, padding_value=PAD_ID)
        return CaptionBatch(
            image_ids, self.features.read(image_ids), tokens.view(len(items), num_captions, -1)
        )


class EpochSampler(Sampler[int]):
    """Each rank's share of the items, in an order that depends on seed and epoch alone.

    Args:
        num_items: of the data set.
        seed: of the order.
        shuffle: if not, items keep their order and no item is repeated to make the ranks' shares
            equal, so that evaluation counts nothing twice.
    """

    def __init__(self, num_items: int, seed: int, shuffle: bool) -> None:
        self.num_items = num_items
        self.seed = seed
        self.shuffle = shuffle
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
            order += order[: -len(order) % num_ranks]
        return iter(order[rank::num_ranks])

    def __len__(self) -> int:
        rank, num_ranks = self._place()
        if self.shuffle:
            return -(-self.num_items // num_ranks)
        return len(range(rank, self.num_items, num_ranks))

    @staticmethod
    def _place() -> tuple[int, int]:
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1


class FolderDataModule(CaptionDataModule):
    """Whatever captions and photos lie in a folder.

    Args:
        dialect: of `captionlab.data.readers`, or `auto`.
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

    def open_features(self, corpus: CaptionCorpus) -> FeatureStore:
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
        )

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
