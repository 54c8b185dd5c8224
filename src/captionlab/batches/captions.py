"""Captions of a corpus as words, and as the ids that a decoder reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from captionlab.corpora import SPLITS, CaptionCorpus, Split
from captionlab.images.augmentation import is_mirrored
from captionlab.options import Count
from captionlab.text import Tokenizer, Vocabulary, mirror_words

log = logging.getLogger(__name__)


class Item(NamedTuple):
    """One view of an image and all its captions.

    Attributes:
        view: its number; 0 is the plain photo.
        image_id: as in the corpus.
        captions: as ids, start and end included.
    """

    view: int
    image_id: str
    captions: list[list[int]]


@dataclass(frozen=True)
class TokenizedCorpus:
    """The words of every caption.

    Attributes:
        splits: for each split, image id to tokenised captions, in the order of the corpus.
    """

    splits: Mapping[Split, Mapping[str, list[list[str]]]]

    @classmethod
    def of(cls, corpus: CaptionCorpus, tokenizer: Tokenizer) -> TokenizedCorpus:
        """Tokenise each caption once, of the training split those that are trained on."""
        used = {**corpus.splits, "train": corpus.training_images}
        return cls(
            {
                split: {
                    image.image_id: [tokenizer(caption) for caption in image.captions]
                    for image in used[split]
                }
                for split in SPLITS
            }
        )

    def captions(self, split: Split) -> Iterator[list[str]]:
        """All captions of a split."""
        return (caption for captions in self.splits[split].values() for caption in captions)

    def references(self, split: Split) -> dict[str, list[str]]:
        """Image id to tokenised captions, words joined by spaces."""
        return {
            image: [" ".join(words) for words in captions]
            for image, captions in self.splits[split].items()
        }

    def vocabulary(self, min_count: int, max_size: int | None) -> Vocabulary:
        """Of the training captions; see `Vocabulary.build`."""
        vocabulary = Vocabulary.build(self.captions("train"), min_count, max_size)
        log.info(
            "vocabulary of %d words: %.1f %% of all words in validation captions are among them",
            len(vocabulary),
            100 * vocabulary.coverage(self.captions("val")),
        )
        return vocabulary


def encode_captions(
    tokenized: TokenizedCorpus, vocabulary: Vocabulary, max_caption_length: Count, num_views: int
) -> dict[Split, list[Item]]:
    """Captions as ids, of all views of training images: the plain ones first, then view by view.

    Args:
        tokenized: of a corpus.
        vocabulary: of its training captions.
        max_caption_length: captions are cut after so many words.
        num_views: of each training photo beside the plain one.

    Returns:
        The items of each split.
    """
    training = list(tokenized.captions("train"))
    num_cut = sum(len(caption) > max_caption_length for caption in training)
    if num_cut:
        log.info(
            "%d of %d training captions are cut to %d words",
            num_cut,
            len(training),
            max_caption_length,
        )

    def ids(captions: Sequence[Sequence[str]]) -> list[list[int]]:
        return [vocabulary.encode(words[:max_caption_length]) for words in captions]

    items = {
        split: [Item(0, image, ids(captions)) for image, captions in images.items()]
        for split, images in tokenized.splits.items()
    }
    for view in range(1, num_views + 1):
        for image, captions in tokenized.splits["train"].items():
            words = [mirror_words(c) for c in captions] if is_mirrored(view) else captions
            items["train"].append(Item(view, image, ids(words)))
    return items
