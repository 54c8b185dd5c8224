"""Word vectors from text files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captionlab.decoders.word_vectors import read_word_vectors, word_vector_dim
from captionlab.errors import ConfigError

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "dog", "cat", "zebra"]
LINES = "the 9 9\ncat 0.5 -1e-1\n<pad> 7 7\ndog 2 3\ncat 8 8\n"


@pytest.mark.parametrize("header", ["", "5 2\n"])
def test_the_words_of_the_vocabulary_are_found(tmp_path: Path, header: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(header + LINES)
    ids, vectors = read_word_vectors(path, WORDS, 2)
    assert ids.tolist() == [4, 5]  # not padding
    torch.testing.assert_close(vectors, torch.tensor([[2.0, 3.0], [0.5, -0.1]]))
    assert word_vector_dim(path) == 2


def test_a_file_without_any_of_the_words_gives_none(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("the 9 9\n")
    ids, vectors = read_word_vectors(path, WORDS, 2)
    assert ids.shape == (0,)
    assert vectors.shape == (0, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the 1 2\ndog 1 2 3\n", r"line 2: 2 numbers must follow 'dog', found '1 2 3'"),
        (b"the 1 2\ndog 1 fine\n", r"line 2: 2 numbers must follow 'dog', found '1 fine'"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (None, "cannot be read as text"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "vectors.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_word_vectors(path, WORDS, 2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "only words here\n", "dog\n"])
def test_a_file_of_something_else_has_no_size(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(ConfigError, match="each line must be a word and its values"):
        word_vector_dim(path)
