"""Captions of photos by an exported model: numpy, onnxruntime and Pillow are all it needs.

    python caption.py photo.jpg other.jpg
    python caption.py photo.jpg --search beam --beam-size 5 --n-best 5

It lies beside `encoder.onnx`, `start.onnx`, `step.onnx` and `captioner.json`, and prints for each
photo its path, the caption's log-probability and the caption. Shape letters: K beams, V vocabulary,
S the side of the encoder's input.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

Array = np.ndarray[Any, np.dtype[Any]]
PAD, START, END, UNKNOWN = range(4)  # the first words of every vocabulary
NARROWEST = 50  # longer side over shorter


class Caption(NamedTuple):
    """A caption, its log-probability, and what the search ranked it by."""

    text: str
    log_probability: float
    score: float


class Captioner:
    """An exported model.

    Args:
        folder: of the files.
        num_threads: of each of its three graphs; 0 for all cores.
        changes: of the search in `captioner.json`: `name` (`greedy` or `beam`), `beam_size`, ...
    """

    def __init__(self, folder: Path, num_threads: int = 0, **changes: Any) -> None:
        self.facts: dict[str, Any] = json.loads((folder / "captioner.json").read_text("utf-8"))
        self.search: dict[str, Any] = {**self.facts["search"], **changes}
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = num_threads
        self._folder = folder
        self._start, self._step = self._load("start.onnx"), self._load("step.onnx")
        self._names = [output.name for output in self._start.get_outputs()]

    def __call__(self, photo: Path | Image.Image, num_captions: int = 1) -> list[Caption]:
        """Captions of a photo, the best first.

        Args:
            photo: a file, or an image.
            num_captions: the most; more than one, up to `beam_size`, are those of a beam search.

        Raises:
            ValueError: if the photo cannot be read.
        """
        image = to_rgb(photo) if isinstance(photo, Image.Image) else read_photo(photo)
        pixels = to_pixels(image, self.facts["preprocessing"])
        grid, pooled = self._encoder.run(["grid", "pooled"], {"pixels": pixels[None]})
        return self.describe(grid, pooled, num_captions)

    def describe(self, grid: Array, pooled: Array, num_captions: int = 1) -> list[Caption]:
        """Captions of the image with these features, float32 (1, P, C) and (1, G)."""
        values = self._start.run(None, {"grid": grid, "pooled": pooled})
        state = dict(zip(self._names, values, strict=True))
        if self.search["name"] == "greedy":
            found = self._greedy(state)
        else:
            found = self._beam(state, num_captions)
        return [Caption(self._text(words), float(p), float(score)) for words, p, score in found]

    @cached_property
    def _encoder(self) -> Any:
        return self._load("encoder.onnx")

    def _load(self, name: str) -> Any:
        path = self._folder / name
        return onnxruntime.InferenceSession(path, self._options, providers=["CPUExecutionProvider"])

    def _text(self, words: Sequence[int]) -> str:
        return " ".join(self.facts["vocabulary"][word] for word in words)

    def _advance(self, token: Array, state: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Log-probabilities of the next word (K, V), and the new state."""
        log_probs, *memory = self._step.run(None, {"token": token, **state})
        image = {name: state[name] for name in self._names if name[:5] == "image"}
        return log_probs, image | {f"memory_{i}": part for i, part in enumerate(memory)}

    def _greedy(self, state: dict[str, Array]) -> list[tuple[list[int], Any, Any]]:
        token, words = np.array([START]), []
        total = np.float32(0)
        for t in range(self.search["max_length"] + 1):
            log_probs, state = self._advance(token, state)
            log_probs[:, [PAD, START, UNKNOWN]] = -np.inf
            token = log_probs.argmax(-1)
            if t == self.search["max_length"] and token[0] != END:  # cut at the limit
                break
            total += log_probs[0, token[0]]
            if token[0] == END:
                break
            words.append(int(token[0]))
        return [(words, total, total)]

    def _beam(self, state: dict[str, Array], num_captions: int) -> list[tuple[list[int], Any, Any]]:
        """The best finished captions; where none was finished, the likeliest beginning alone."""
        K, longest = self.search["beam_size"], self.search["max_length"]
        penalty = self.search["length_penalty"]
        state = _select(state, np.zeros(K, np.int64))
        token, written = np.full(K, START), np.zeros((K, 0), np.int64)
        total = np.full(K, -np.inf, np.float32)
        total[0] = 0  # all beams begin alike: only one of them counts
        best: list[tuple[list[int], Any, Any]] = []
        for t in range(longest + 1):
            log_probs, state = self._advance(token, state)
            self._bar(log_probs, written)
            following = (total[:, None] + log_probs).ravel()
            order = np.argsort(-following, kind="stable")[: 2 * K]  # K of them may end
            parent, word = np.divmod(order, log_probs.shape[1])
            for i in np.flatnonzero((word == END) & (following[order] > -np.inf)):
                if i < K:
                    log_prob = following[order[i]]
                    caption = written[parent[i]].tolist()
                    best.append((caption, log_prob, log_prob / (t + 1) ** penalty))
            best = sorted(best, key=lambda found: -found[2])[:num_captions]
            goes_on = np.flatnonzero(word != END)[:K]
            after = following[order[goes_on]]
            # log p only falls, and a long caption divides it by most.
            worst = best[-1][2] if len(best) == num_captions else -np.inf
            if t == longest or not worst < after.max() / (longest + 1) ** penalty:
                break
            parent, token, total = parent[goes_on], word[goes_on], after
            written = np.concatenate([written[parent], token[:, None]], 1)
            state = _select(state, parent)
        if best:
            return best
        likeliest = int(total.argmax())
        words, log_prob = written[likeliest].tolist(), total[likeliest]
        return [(words, log_prob, log_prob / max(1, written.shape[1]) ** penalty)]

    def _bar(self, log_probs: Array, written: Array) -> None:
        """Set what may not come next to minus infinity: log_probs (K, V), written (K, t)."""
        log_probs[:, [PAD, START, UNKNOWN]] = -np.inf
        t, n = written.shape[1], self.search["block_ngrams"]
        if t < self.search["min_length"]:
            log_probs[:, END] = -np.inf
        elif t:
            log_probs[np.isin(written[:, -1], self.search["forbidden_endings"]), END] = -np.inf
        if n is not None and t >= n:
            for beam, words in enumerate(written.tolist()):
                for i in range(t - n + 1):
                    if words[i : i + n - 1] == words[t - n + 1 :]:
                        log_probs[beam, words[i + n - 1]] = -np.inf


def read_photo(path: Path) -> Image.Image:
    """Decode a photo, upright, as 8-bit RGB; of an animation the first frame.

    Raises:
        ValueError: if it cannot be decoded, or is too narrow for a photo.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:
            image = to_rgb(opened)
    except Exception as error:  # Pillow's parsers raise many kinds for a damaged file
        raise ValueError(f"photo {path} cannot be read: {' '.join(str(error).split())}") from error
    if max(image.size) > NARROWEST * min(image.size):
        raise ValueError(f"photo {path}: one side may be at most {NARROWEST} times the other.")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright 8-bit RGB; transparent pixels become white, 16-bit grey is scaled."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("it has floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):
        sixteen = np.asarray(image).astype(np.int64)
        if sixteen.min() < 0 or sixteen.max() > 65535:
            raise ValueError("it has 32-bit pixels, whose range is unknown")
        return Image.fromarray((sixteen // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def to_pixels(image: Image.Image, preprocessing: dict[str, Any]) -> Array:
    """The shorter side resized, the centre cropped: uint8 (3, S, S)."""
    pixels = np.asarray(image)  # (rows, columns, 3)
    size, resized = preprocessing["image_size"], preprocessing["resize_size"]
    shorter = min(pixels.shape[:2])
    for axis in (1, 0) if shorter != resized else ():
        side = int(resized * pixels.shape[axis] / shorter)
        pixels = resize(pixels, axis, side, preprocessing["interpolation"])
    top, left = (round((side - size) / 2) for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size].transpose(2, 0, 1)


def resize(pixels: Array, axis: int, size: int, interpolation: str) -> Array:
    """Resize one axis of uint8 pixels, with antialiasing.

    It gives torch's pixels, bit for bit, whose weights have 16 bits. Pillow's have more, so that
    its pixels differ by one here and there.
    """
    pixels = pixels.swapaxes(0, axis)
    length = len(pixels)
    if length == size:
        return pixels.swapaxes(0, axis)
    scale = length / size
    shrink = max(scale, 1.0)
    support = shrink * {"bilinear": 1, "bicubic": 2}[interpolation]
    centre = scale * (np.arange(size) + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), length)
    places = first[:, None] + np.arange((last - first).max())  # (size, taps)
    weights = _kernel(np.abs(places - centre[:, None] + 0.5) / shrink, interpolation)
    weights = np.where(places < last[:, None], weights, 0)
    weights /= weights.sum(1, keepdims=True)
    bits = next(b for b in range(22) if int(0.5 + weights.max() * 2 ** (b + 1)) >= 2**15)
    integers = np.trunc(weights * 2**bits + np.copysign(0.5, weights)).astype(np.int32)
    total = np.full((size, *pixels.shape[1:]), 1 << (bits - 1), np.int32)
    for tap in range(places.shape[1]):
        total += integers[:, tap, None, None] * pixels[np.minimum(places[:, tap], length - 1)]
    return (total >> bits).clip(0, 255).astype(np.uint8).swapaxes(0, axis)


def _kernel(x: Array, interpolation: str) -> Array:
    weights: Array = np.maximum(1 - x, 0)
    if interpolation == "bilinear":
        return weights
    near, far = (1.5 * x - 2.5) * x * x + 1, ((x - 5) * x + 8) * x - 4
    return np.where(x < 1, near, np.where(x < 2, -0.5 * far, 0))


def _select(state: dict[str, Array], rows: Array) -> dict[str, Array]:
    """The beams at `rows`; of the image there is one."""
    return {name: v[:, rows] if name[:6] == "memory" else v for name, v in state.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the captions; 1 if a photo could not be read."""
    parser = argparse.ArgumentParser(description="Caption photos, one line each.")
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    parser.add_argument("--search", choices=("greedy", "beam"), help="default: the run's own")
    parser.add_argument("--beam-size", type=int, metavar="K", help="default: the run's own")
    parser.add_argument("--n-best", type=int, default=1, metavar="N", help="of a beam search")
    options = parser.parse_args(arguments)
    changes = {"name": options.search, "beam_size": options.beam_size}
    given = {name: value for name, value in changes.items() if value is not None}
    captioner = Captioner(Path(__file__).parent, **given)
    most = captioner.search["beam_size"] if captioner.search["name"] == "beam" else 1
    if not 1 <= options.n_best <= most:
        parser.error(f"--n-best must be 1 to {most}, as many as the search gives")
    status = 0
    for photo in options.photos:
        try:
            captions = captioner(photo, options.n_best)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            status = 1
            continue
        for caption in captions:
            text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in caption.text)
            print(f"{photo}\t{caption.log_probability:.2f}\t{text}")
    return status


if __name__ == "__main__":
    sys.exit(main())
