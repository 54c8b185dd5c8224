"""Captions of photos outside any data set, by a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict, Unpack, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captionlab.captioner.best_run import best_run
from captionlab.captioner.captioner import Captioner
from captionlab.captioner.load import load_run
from captionlab.captioner.photo_caption import Alternative, PhotoCaption, Word
from captionlab.captioner.photo_input import Photo, decoded_batches, is_address, photos_in
from captionlab.captioner.saliency import Method, saliency_maps
from captionlab.errors import ConfigError, DataError
from captionlab.features.source import EncoderFeatures
from captionlab.search.likelihood import WordPredictions, word_predictions
from captionlab.types import Hypothesis, ImageFeatures

_SEARCHED_AT_ONCE = 2  # batches of the encoder: a search of few captions is slow

OnError: TypeAlias = Literal["raise", "return"]
_Pixels: TypeAlias = NDArray[np.uint8]


def load(target: str | Path, overrides: Sequence[str] = ()) -> PhotoCaptioner:
    """Load a trained model to caption photos with it. The data set is not needed.

    Args:
        target: a run's folder, a checkpoint, an exported file, or a folder of runs, of which the
            finished one with the best validation score is taken; `target` of the captioner says
            which.
        overrides: `key=value` of the run's configuration, such as `search.beam_size=5`.

    Raises:
        RunError: if there is no finished run, or the file is none of captionlab's.
        ConfigError: for an override that does not exist or has a wrong value.
        WeightsError: if the encoder's weights cannot be loaded.
    """
    path = best_run(Path(target))
    captioner = load_run(path, overrides).captioner
    assert isinstance(captioner.source, EncoderFeatures)
    captioner.source.load()
    return PhotoCaptioner(path, captioner, captioner.source)


class _Options(TypedDict, total=False):
    """Of `PhotoCaptioner.stream`, which says what they mean and what they are if left out."""

    n_best: int
    words: bool
    attention: bool
    explain: Method | None
    pixels: bool
    on_error: OnError
    num_workers: int


class PhotoCaptioner:
    """Captions photos; made by `captionlab.load`. Several threads may use it at once.

    A photo gets the caption that the run's own test would give it. Only `search=sample` differs:
    its draws are seeded by the image id in the test, and by the photo's path here. Another batch
    size may change the last digits of a probability.

    Args:
        target: the folder or file that was loaded.
        captioner: of one run.
        source: of its features, loaded.

    Attributes:
        attends: whether the model has attention.
        crop_share: side of the central square that the encoder sees, over the photo's shorter side.
        max_captions: the most captions of a photo that the search gives.
        num_workers: processes that keep the encoder busy with many photos on this machine.
    """

    def __init__(self, target: Path, captioner: Captioner, source: EncoderFeatures) -> None:
        self.target = target
        self.attends = captioner.decoder.attends
        self.crop_share = source.preprocessing.image_size / source.preprocessing.resize_size
        self.max_captions = captioner.search.max_captions
        self.num_workers = source.num_workers
        self._captioner = captioner
        self._source = source

    # A path may be a folder, which no type says: what is `Any` there fits both uses.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, photos: str | Path, **options: Unpack[_Options]
    ) -> PhotoCaption | Any: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, photos: Image.Image | _Pixels, **options: Unpack[_Options]
    ) -> PhotoCaption: ...
    @overload
    def __call__(
        self, photos: Iterable[Photo], **options: Unpack[_Options]
    ) -> list[PhotoCaption]: ...
    def __call__(self, photos: Photo | Iterable[Photo], **options: Any) -> Any:
        """Caption one photo, several, or those in a folder and the folders in it.

        Args:
            photos: a path, an http(s) address, an image of Pillow's, an array uint8 (H, W, 3) or
                (H, W); any number of these; or a folder.
            options: see `stream`.

        Returns:
            A caption for one photo, else a list in the order of the photos; those of a folder are
            in the order of their names.

        Raises:
            DataError: if a photo cannot be read, or there is none in the folder.
            ConfigError: if model or search cannot give what is asked.
        """
        if isinstance(photos, str | Path) and not is_address(photos) and Path(photos).is_dir():
            return list(self.stream(photos_in(Path(photos)), **options))
        if isinstance(photos, str | Path | Image.Image | np.ndarray):
            return next(self.stream([photos], **options))
        return list(self.stream(photos, **options))

    def stream(
        self,
        photos: Iterable[Photo],
        *,
        n_best: int = 1,
        words: bool = True,
        attention: bool = False,
        explain: Method | None = None,
        pixels: bool = False,
        on_error: OnError = "raise",
        num_workers: int = 0,
    ) -> Iterator[PhotoCaption]:
        """Caption any number of photos, two batches of the encoder in memory at a time.

        Args:
            photos: taken as they are needed; see `__call__`.
            n_best: the most captions of each photo; more than one are those of a beam search.
            words: whether captions have `words`; without them captioning is faster. Attention and
                explanations need them, whatever is said here.
            attention: whether words have attention.
            explain: gives words `saliency`, for models without attention too: by `gradients`, or by
                `occlusion`, which encodes each photo 82 times.
            pixels: whether captions have what the encoder saw of the photo.
            on_error: `raise`, or `return` a `PhotoCaption` that has nothing but an `error` for
                photos that cannot be read.
            num_workers: processes that decode photos while others are captioned; 0 decodes in
                this one.

        Raises:
            DataError: if a photo cannot be read.
            ConfigError: if model or search cannot give what is asked.
        """
        self._check(n_best, attention, explain, on_error)
        size = _SEARCHED_AT_ONCE * self._source.batch_size
        batches = decoded_batches(photos, self._source.preprocessing, size, num_workers)
        maps = attention or explain is not None
        request = _Request(n_best, words or maps, attention, explain, pixels or maps)
        return self._captions(batches, request, on_error)

    def _check(self, n_best: int, attention: bool, explain: str | None, on_error: str) -> None:
        for name, value, known in (
            ("on_error", on_error, get_args(OnError)),
            ("explain", explain, (None, *get_args(Method))),
        ):
            if value not in known:
                words = " or ".join(map(str, known))
                raise ConfigError(f"{name}={value!r} is unknown; use {words}.")
        if not 1 <= n_best <= self.max_captions:
            raise ConfigError(
                f"{n_best} captions of each photo were asked for, and this search gives 1 to "
                f"{self.max_captions}; override search.beam_size={max(n_best, 1)} of a run with "
                "search=beam."
            )
        if attention and not self.attends:
            raise ConfigError(
                "this model has no attention; use explain=occlusion, or a run with "
                "conditioning=attention or dot_attention."
            )

    def _captions(
        self,
        batches: Iterator[list[tuple[str | int, Tensor | str]]],
        request: _Request,
        on_error: str,
    ) -> Iterator[PhotoCaption]:
        for batch in batches:
            readable = [(source, p) for source, p in batch if isinstance(p, Tensor)]
            captions = iter(self._caption(readable, request) if readable else [])
            for source, pixels in batch:
                if isinstance(pixels, Tensor):
                    yield next(captions)
                elif on_error == "return":
                    yield PhotoCaption.unreadable(source, pixels)
                else:
                    raise DataError(pixels)

    def _caption(
        self, photos: Sequence[tuple[str | int, Tensor]], request: _Request
    ) -> list[PhotoCaption]:
        """Captions of B photos, each its source and uint8 (3, S, S)."""
        decoder, search = self._captioner.decoder, self._captioner.search
        pixels = torch.stack([pixels for _, pixels in photos])
        parts = [self._source.encode(part) for part in pixels.split(self._source.batch_size)]
        features = ImageFeatures(
            torch.cat([part.grid for part in parts]), torch.cat([part.pooled for part in parts])
        )
        names = [str(source) for source, _ in photos]
        with self._captioner.autocast():
            if request.n_best > 1:
                ranked = search.n_best(decoder, features)
            else:
                ranked = [[best] for best in search(decoder, features, names)]
            first = [best for best, *_ in ranked]
            predictions = word_predictions(decoder, features, first) if request.words else None
        saliency: Sequence[Tensor | None] = [None] * len(photos)
        if request.explain is not None:
            saliency = saliency_maps(request.explain, self._captioner, self._source, pixels, first)
        captions = []
        for row, (source, photo) in enumerate(photos):
            best, *others = [self._alternative(h) for h in ranked[row][: request.n_best]]
            words: tuple[Word, ...] = ()
            if predictions is not None:
                attention = predictions[row].attention if request.attention else None
                words = self._words(first[row], predictions[row], attention, saliency[row])
            caption = PhotoCaption(
                source,
                best.text,
                best.log_probability,
                words,
                (best, *others),
                best.truncated,
                pixels=photo.permute(1, 2, 0).numpy() if request.pixels else None,
            )
            captions.append(caption)
        return captions

    def _alternative(self, caption: Hypothesis) -> Alternative:
        text = self._captioner.vocabulary.decode(caption.tokens)
        return Alternative(text, caption.log_probability, not caption.finished)

    def _words(
        self,
        caption: Hypothesis,
        predictions: WordPredictions,
        attention: Tensor | None,
        saliency: Tensor | None,
    ) -> tuple[Word, ...]:
        """Each with its maps: attention (T, P) and saliency (T, rows, columns), the end's too."""
        texts = [self._captioner.vocabulary.decode([token]) for token in caption.tokens]
        probabilities = predictions.log_probabilities.exp().tolist()
        if attention is not None:
            attention = attention.view(-1, *self._source.feature_shape.grid_size)
        maps = [
            [None] * len(texts) if values is None else list(values.float().cpu().numpy())
            for values in (attention, saliency)
        ]
        return tuple(Word(*word) for word in zip(texts, probabilities, *maps, strict=False))


class _Request(NamedTuple):
    """What is asked of each photo; see `PhotoCaptioner.stream`."""

    n_best: int
    words: bool
    attention: bool
    explain: Method | None
    pixels: bool
