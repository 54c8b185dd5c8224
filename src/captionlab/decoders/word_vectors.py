"""Pre-trained word vectors from a text file, as GloVe and word2vec write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captionlab.errors import ConfigError
from captionlab.types import PAD_ID

if TYPE_CHECKING:
    from torch import Tensor


def read_word_vectors(path: Path, words: Sequence[str], dim: int) -> tuple[Tensor, Tensor]:
    """The vectors of known words, from lines of a word and its values.

    Args:
        path: text file; its first line may be the numbers of words and of values. Of a word with
            several lines the first counts.
        words: all words by id; padding gets no vector.
        dim: values per word.

    Returns:
        Ids, int64 (n,), ascending, and vectors, float32 (n, dim), of the n words that the file has.

    Raises:
        ConfigError: if the file is missing, is no such text, or has another number of values for
            a word.
    """
    import torch  # late: it takes a second, and text is read without it

    ids = {word: i for i, word in enumerate(words) if i != PAD_ID}
    by_id: dict[int, list[float]] = {}
    for number, line in _lines(path):
        word, _, rest = line.partition(" ")
        if word not in ids or ids[word] in by_id:
            continue
        values = _values(rest)
        if values is None or len(values) != dim:
            raise ConfigError(
                f"decoder.word_vectors={path}, line {number}: {dim} numbers must follow {word!r}, "
                f"found {rest[:40]!r}."
            )
        by_id[ids[word]] = values
    known = sorted(by_id)
    vectors = torch.tensor([by_id[i] for i in known], dtype=torch.float32).view(-1, dim)
    return torch.tensor(known, dtype=torch.int64), vectors


def word_vector_dim(path: Path) -> int:
    """The number of values of the first word.

    Raises:
        ConfigError: if the file is missing or is no such text.
    """
    for _, line in _lines(path):
        values = _values(line.partition(" ")[2])
        if values:
            return len(values)
        break
    raise ConfigError(
        f"decoder.word_vectors={path}: each line must be a word and its values, as GloVe and "
        "word2vec write text; found something else."
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines by number from 1, without the header that word2vec writes."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                fields = line.split() if number == 1 else []
                if len(fields) == 2 and all(field.isdigit() for field in fields):
                    continue
                yield number, line.strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"decoder.word_vectors={path} cannot be read as text ({error}); give the path of an "
            "unpacked GloVe or word2vec text file."
        ) from error


def _values(text: str) -> list[float] | None:
    try:
        return [float(value) for value in text.split()]
    except ValueError:
        return None
