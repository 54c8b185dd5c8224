"""What a user asks of an evaluation, and the captions that it is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captionlab.corpora.corpus import CaptionCorpus, Split
from captionlab.metrics.protocol import TokenizerName
from captionlab.text import Tokenizer

Truth = Callable[[Mapping[str, str]], dict[str, float]]


@dataclass(frozen=True)
class Request:
    """What to evaluate on, and what to compute.

    Attributes:
        data: root of a data set; None for a run's own.
        split_seed: of splits that are drawn where its files give none; None for a run's own, and
            0 for a file of captions.
        split: of it.
        image_list: names the images of a text file's captions, line by line.
        subset: score the images that have captions where others have none.
        tokenizer: `python` scores without Java, under names of their own.
        num_samples: captions drawn per image for diversity; 0 for none. A results file brings its
            own.
        pool_size: images among which a caption looks for its own; 0 for no retrieval.
        jar_folder: holds the jars of metrics that need some; None leaves these out.
        cleaned: score captions and references without punctuation, under names of their own.
        overrides: `key=value` of a run's configuration.
    """

    data: Path | None = None
    split_seed: int | None = None
    split: Split = "test"
    image_list: Path | None = None
    subset: bool = False
    tokenizer: TokenizerName = "stanford"
    num_samples: int = 0
    pool_size: int = 0
    jar_folder: Path | None = None
    cleaned: bool = False
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class WrittenCaptions:
    """Captions to score.

    Attributes:
        corpus: that they were written for.
        captions: image id to the caption to score, and further ones that show how much the
            model's captions differ.
        truth: gives the share of claims that are true of the known scenes; None if none are known.
        likelihood: perplexity and retrieval under the model, where one was asked.
        tokenizer: of the run that wrote them; None for those of a file.
        warnings: what may make their scores wrong.
    """

    corpus: CaptionCorpus
    captions: Mapping[str, Sequence[str]]
    truth: Truth | None = None
    likelihood: Mapping[str, float] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None
    warnings: Sequence[str] = ()
