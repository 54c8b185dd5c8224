"""What is in a data set, and which faults would stop a training or falsify its scores."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from captionlab.corpora.corpus import SPLITS, CaptionCorpus, Split
from captionlab.images.photos import examine_photos
from captionlab.text import SPECIAL_WORDS, Tokenizer, Vocabulary
from captionlab.types import FeatureShape

THRESHOLDS = (1, 2, 3, 5, 10)
_LONG = 50
# Marks that other programs write into captions for their own training.
_MARKS = {*SPECIAL_WORDS, "<s>", "</s>", "<sos>", "<eos>", "<bos>", "startseq", "endseq"}
_WITH_MARKS = "marks of start, end or unknown words"


@dataclass(frozen=True)
class VocabularySize:
    """The vocabulary that a minimum count keeps.

    Attributes:
        min_count: least occurrences of a word in training captions.
        size: words kept, with the four special ones.
        test_coverage: share of the running words of test captions that are kept, in [0, 1].
    """

    min_count: int
    size: int
    test_coverage: float


@dataclass(frozen=True)
class Photo:
    """Where a photo stands in the corpus."""

    split: Split
    image_id: str
    path: Path


@dataclass(frozen=True)
class CorpusCheck:
    """The contents and faults of a data set.

    Attributes:
        name: of the data set.
        notes: of the corpus.
        num_images: by split.
        num_captions: by split.
        captions_per_image: number of captions to number of images.
        lengths: number of words to number of captions.
        vocabulary: one entry per threshold.
        odd_captions: kind of oddity to pairs of image id and caption.
        photos_decoded: whether the photos were decoded; the next two are empty if not.
        unreadable: for every such photo, the reason.
        duplicates: groups of photos with the same bytes.
        wordless: images without a word in any of their captions, by split.
        feature_bytes: encoder to the bytes that its features of all images take.
    """

    name: str
    notes: tuple[str, ...]
    num_images: Mapping[Split, int]
    num_captions: Mapping[Split, int]
    captions_per_image: Mapping[int, int]
    lengths: Mapping[int, int]
    vocabulary: tuple[VocabularySize, ...]
    odd_captions: Mapping[str, tuple[tuple[str, str], ...]]
    photos_decoded: bool
    unreadable: tuple[str, ...]
    duplicates: tuple[tuple[Photo, ...], ...]
    wordless: Mapping[Split, int]
    feature_bytes: Mapping[str, int]

    @property
    def problems(self) -> list[str]:
        """Faults that would stop a training or falsify its scores, a line each."""
        problems = [
            f"the {split} split has no images, so that nothing can be trained and scored"
            for split, number in self.num_images.items()
            if not number
        ]
        if self.num_images["val"] == 1:
            problems.append(
                "the val split has one image, of which CIDEr-D is always 0, so that no epoch is "
                "the best; move images into it"
            )
        problems += [
            f"{number} of {self.num_images[split]} images of the {split} split have no word in any "
            "caption, so that nothing can be learned from them or scored; caption or remove them"
            for split, number in self.wordless.items()
            if number
        ]
        if marked := self.odd_captions.get(_WITH_MARKS):
            problems.append(
                f"{len(marked)} captions hold {_WITH_MARKS}, which scores take for words; remove "
                f"them from the captions. The first: {marked[0][1]!r}"
            )
        if self.unreadable:
            problems.append(
                f"{len(self.unreadable)} photos cannot be read and would stop a training; replace "
                f"them, or set data.on_bad_image=skip. The first: {self.unreadable[0]}"
            )
        across = [group for group in self.duplicates if len({p.split for p in group}) > 1]
        if across:
            pairs = Counter(" and ".join(_splits(group)) for group in across)
            counts = ", ".join(f"{number} in {pair}" for pair, number in pairs.items())
            first = " = ".join(f"{photo.split} {photo.image_id}" for photo in across[0])
            problems.append(
                f"{len(across)} photos are in more than one split ({counts}), so that scores are "
                f"partly memory; leave them in one. The first: {first}"
            )
        return problems


def check_corpus(
    corpus: CaptionCorpus,
    tokenizer: Tokenizer,
    feature_shapes: Mapping[str, FeatureShape],
    *,
    photos: bool,
    num_workers: int,
) -> CorpusCheck:
    """Count and check all captions and, if asked, decode all photos.

    Args:
        corpus: as read, bad photos included.
        tokenizer: splits captions into the words that are counted.
        feature_shapes: encoder to the sizes of one image's features.
        photos: whether to decode them, which takes the longest.
        num_workers: processes that decode.
    """
    words = {
        split: [[tokenizer(caption) for caption in image.captions] for image in images]
        for split, images in corpus.splits.items()
    }
    flat = {split: [c for captions in images for c in captions] for split, images in words.items()}
    vocabularies = [Vocabulary.build(flat["train"], t, None) for t in THRESHOLDS]
    num_images = len(corpus.images)
    unreadable, duplicates = _examine(corpus, num_workers) if photos else ((), ())
    return CorpusCheck(
        name=corpus.name,
        notes=corpus.notes,
        num_images={split: len(corpus.splits[split]) for split in SPLITS},
        num_captions={split: len(flat[split]) for split in SPLITS},
        captions_per_image=_sorted(Counter(len(image.captions) for image in corpus.images)),
        lengths=_sorted(Counter(len(c) for split in SPLITS for c in flat[split])),
        vocabulary=tuple(
            VocabularySize(threshold, len(vocabulary), vocabulary.coverage(flat["test"]))
            for threshold, vocabulary in zip(THRESHOLDS, vocabularies, strict=True)
        ),
        odd_captions=_odd_captions(corpus, words),
        photos_decoded=photos,
        unreadable=unreadable,
        duplicates=duplicates,
        wordless={split: sum(not any(image) for image in words[split]) for split in SPLITS},
        feature_bytes={
            name: 2 * num_images * (shape.num_positions * shape.grid_dim + shape.pooled_dim)
            for name, shape in feature_shapes.items()
        },
    )


def _examine(
    corpus: CaptionCorpus, num_workers: int
) -> tuple[tuple[str, ...], tuple[tuple[Photo, ...], ...]]:
    photos = [Photo(s, image.image_id, image.path) for s in SPLITS for image in corpus.splits[s]]
    unreadable = []
    same: defaultdict[str, list[Photo]] = defaultdict(list)
    outcomes = examine_photos([photo.path for photo in photos], num_workers)
    for photo, (reason, digest) in zip(photos, outcomes, strict=True):
        if reason:
            unreadable.append(reason)
        else:
            same[digest].append(photo)
    return tuple(unreadable), tuple(tuple(group) for group in same.values() if len(group) > 1)


def _odd_captions(
    corpus: CaptionCorpus, words: Mapping[Split, Sequence[Sequence[Sequence[str]]]]
) -> dict[str, tuple[tuple[str, str], ...]]:
    odd: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for split in SPLITS:
        for image, tokenized in zip(corpus.splits[split], words[split], strict=True):
            for kind, caption in _oddities(image.captions, tokenized):
                odd[kind].append((image.image_id, caption))
    return {kind: tuple(captions) for kind, captions in sorted(odd.items())}


def _oddities(
    captions: Sequence[str], tokenized: Sequence[Sequence[str]]
) -> Iterator[tuple[str, str]]:
    earlier: set[str] = set()
    for caption, words in zip(captions, tokenized, strict=True):
        if len(words) < 2:
            yield ("one word" if words else "no words"), caption
        if len(words) > _LONG:
            yield f"over {_LONG} words", caption
        # Cc, Cf, Co, Cn; line and paragraph separators
        if any(unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" for c in caption):
            yield "control characters", caption
        if _MARKS.intersection(words):
            yield _WITH_MARKS, caption
        if caption in earlier:
            yield "twice for one image", caption
        earlier.add(caption)


def _splits(group: Sequence[Photo]) -> list[Split]:
    return [split for split in SPLITS if any(photo.split == split for photo in group)]


def _sorted(counts: Counter[int]) -> dict[int, int]:
    return dict(sorted(counts.items()))
