"""How the image enters a recurrent decoder, in the terms of Tanti et al. 2018."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from captionlab.decoders.cells import StateShape
from captionlab.decoders.fast.dropout import Dropout
from captionlab.decoders.protocol import Decoder, PreparedImage
from captionlab.options import Derived
from captionlab.types import FeatureShape, ImageFeatures

Prepared = TypeVar("Prepared", bound=PreparedImage)


@dataclass(frozen=True)
class ImageVector(PreparedImage):
    """A vector per image, (B, D), for conditionings that need no more."""

    vector: Tensor


class Conditioning(nn.Module, Generic[Prepared]):
    """How the image enters a recurrent decoder: `prepare` once per image, and five hooks.

    A subclass implements `prepare` and the hooks that it uses; by default a hook changes nothing.
    Whatever does not depend on the words is computed in `prepare`.

    Args:
        feature_shape: what the encoder makes of an image.
        embedding_dim: size of a word vector, E.
        state_shape: of the decoder's recurrent layers.

    Attributes:
        needs_grid: whether it reads the feature map; if not, whole-image vectors are enough.
        attends: whether it has the hook `attend`. Teacher forcing then runs step by step.
        input_dim: size of what `step_input` gives the cell.
        context_dim: size of what `attend` gives the cell; 0 where it does not attend.
        output_dim: size of what `output` gives the vocabulary layer.
    """

    needs_grid: ClassVar[bool] = True
    attends: ClassVar[bool] = False

    def __init__(
        self,
        feature_shape: FeatureShape,
        embedding_dim: Annotated[int, Derived],
        state_shape: StateShape,
    ) -> None:
        super().__init__()
        self.input_dim = embedding_dim
        self.context_dim = 0
        self.output_dim = state_shape.hidden_dim

    def prepare(self, features: ImageFeatures) -> Prepared:
        """What the other hooks need of each image."""
        raise NotImplementedError

    def initial_state(self, image: Prepared) -> tuple[Tensor, ...] | None:
        """The state before the first input, each (L, B, H); None for zeros."""
        return None

    def prefix(self, image: Prepared) -> Tensor | None:
        """Vectors to read before the start token, as if words, (B, n, E); None for none."""
        return None

    def step_input(self, words: Tensor, is_start: Tensor, image: Prepared) -> Tensor:
        """What the cell reads for words.

        Args:
            words: vectors (B, K, E), K words of each image in any order.
            is_start: bool (B, K), whether the word is the start token.
            image: from `prepare`.

        Returns:
            (B, K, input_dim).
        """
        return words

    def attend(self, hidden: Tensor, image: Prepared) -> tuple[Tensor, Tensor]:
        """What the cell reads of the image given its state; called only where `attends` is true.

        Args:
            hidden: the top layer's (B, K, H) before this step, K captions of each image.
            image: from `prepare`; perhaps of more images, of which these are the first.

        Returns:
            The context (B, K, context_dim), and the attention weights (B, K, P), summing to 1.
        """
        raise NotImplementedError

    def output(self, hidden: Tensor, image: Prepared) -> Tensor:
        """What the vocabulary layer reads: from (B, K, H) to (B, K, output_dim)."""
        return hidden


def standardise(channels: int) -> nn.Module:
    """Bring each channel of (..., C) to mean 0 and variance 1 over images and positions."""
    return _OverChannels(nn.BatchNorm1d(channels, affine=False))


def batch_norm(channels: int, momentum: float) -> nn.Module:
    """Standardise (..., C), with that share of each batch's statistics, then scale and shift."""
    return _OverChannels(nn.BatchNorm1d(channels, momentum=momentum))


def pooled_map(feature_shape: FeatureShape, dim: int, dropout: float) -> nn.Sequential:
    """From a standardised image vector (B, G), with dropout, to (B, dim)."""
    return nn.Sequential(
        standardise(feature_shape.pooled_dim),
        Dropout(dropout),
        nn.Linear(feature_shape.pooled_dim, dim),
    )


def grid_map(feature_shape: FeatureShape, dim: int | None, dropout: float) -> nn.Sequential:
    """From a standardised feature map (B, P, C) to (B, P, dim), with dropout; None for no map."""
    if dim is None:
        return nn.Sequential(standardise(feature_shape.grid_dim), Dropout(dropout))
    return nn.Sequential(
        standardise(feature_shape.grid_dim),
        nn.Linear(feature_shape.grid_dim, dim),
        nn.ReLU(),
        Dropout(dropout),
    )


def as_state(flat: Tensor, state_shape: StateShape) -> tuple[Tensor, ...]:
    """An initial state, each (L, B, H) and in (-1, 1), from a linear map's output (B, S*L*H)."""
    num_states, num_layers, hidden_dim = state_shape
    parts = torch.tanh(flat).view(-1, num_states, num_layers, hidden_dim).permute(1, 2, 0, 3)
    return tuple(part.contiguous() for part in parts)


def fix_statistics(decoder: Decoder, features: ImageFeatures | None) -> None:
    """Standardise the parts of a batch by the statistics of the whole of it.

    Args:
        decoder: in training mode; what it computes once per image is run without a gradient.
        features: of the whole batch, this process's share; None to standardise each batch by
            itself again.

    Raises:
        ValueError: if the decoder has a batch norm whose statistics need a gradient.
    """
    layers = [layer for layer in decoder.modules() if isinstance(layer, _OverChannels)]
    for layer in layers:
        layer.fixed = None
    if features is None or not layers:
        return
    if not standardises_features_alone(decoder):
        raise ValueError("the statistics of this decoder's batch norm need a gradient.")
    for layer in layers:
        layer.is_measuring = True
    with torch.no_grad():
        decoder.start(features)
    for layer in layers:
        layer.is_measuring = False


def standardises_features_alone(decoder: Decoder) -> bool:
    """Whether no batch norm of the decoder stands behind a layer that is trained."""
    return not any(
        layer.norm.affine for layer in decoder.modules() if isinstance(layer, _OverChannels)
    )


def has_batch_norm(decoder: Decoder) -> bool:
    """Whether the decoder standardises by the statistics of a batch."""
    return any(isinstance(layer, _OverChannels) for layer in decoder.modules())


class _Statistics(NamedTuple):
    """Of each channel, over the batch of all processes, each (C,)."""

    mean: Tensor
    variance: Tensor  # biased


class _OverChannels(nn.Module):
    """A batch norm of the last axis, over the batch of all processes.

    `nn.SyncBatchNorm` does the same on GPUs alone.

    Attributes:
        fixed: statistics to use instead of a batch's own.
        is_measuring: whether the next batch's statistics become `fixed`.
    """

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        self.norm = norm
        self.fixed: _Statistics | None = None
        self.is_measuring = False

    def forward(self, values: Tensor) -> Tensor:
        flat, norm = torch.flatten(values, 0, -2), self.norm
        if self.training and (_num_ranks() > 1 or self.is_measuring or self.fixed is not None):
            flat = self._shared(flat)
        elif len(flat) > 1:
            flat = norm(flat)
        else:  # one vector has no variance: the running statistics (at first 0 and 1) are used
            flat = functional.batch_norm(
                flat, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        return flat.view_as(values)

    def _shared(self, flat: Tensor) -> Tensor:
        """Standardise (R, C) of which other processes, or other parts of the batch, have more."""
        norm, statistics = self.norm, self.fixed
        assert norm.running_mean is not None
        assert norm.running_var is not None
        if self.is_measuring or statistics is None:
            statistics = self._measure(flat.float())
        if self.is_measuring:
            self.fixed = statistics
        scale = torch.rsqrt(statistics.variance + norm.eps)
        if norm.affine:
            scale = scale * norm.weight
        standard = (flat.float() - statistics.mean) * scale
        return (standard + norm.bias if norm.affine else standard).to(flat.dtype)

    def _measure(self, flat: Tensor) -> _Statistics:
        """The statistics of (R, C) of all processes; the running ones take their share of them."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        assert norm.momentum is not None
        count = _over_ranks(flat.new_tensor(float(len(flat))))
        mean = _over_ranks(flat.sum(0)) / count
        variance = _over_ranks((flat - mean).square().sum(0)) / count
        with torch.no_grad():
            norm.num_batches_tracked += 1
            norm.running_mean.lerp_(mean, norm.momentum)
            unbiased = variance * count / (count - 1).clamp_min(1)
            norm.running_var.lerp_(unbiased, norm.momentum)
        return _Statistics(mean, variance)


def _num_ranks() -> int:
    is_one_of_several = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if is_one_of_several else 1


def _over_ranks(values: Tensor) -> Tensor:
    """The sum over all processes, with gradient."""
    if _num_ranks() == 1:
        return values
    from torch.distributed.nn.functional import all_reduce

    summed: Tensor = all_reduce(values)
    return summed
