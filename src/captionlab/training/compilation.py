"""Teacher forcing as one compiled graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from captionlab.decoders import Decoder
from captionlab.errors import ConfigError
from captionlab.types import PAD_ID

_STRIDE = 8  # of padded lengths: each has a graph of its own, which takes minutes to compile


def compile_decoder(decoder: Decoder, backend: str = "inductor") -> None:
    """Compile in place what training calls, `forward`; it must be one graph without a break.

    Steps of a search stay as they are, and so do the names of parameters.

    Args:
        decoder: its next call to `forward` compiles.
        backend: of torch.compile.
    """
    config = torch._dynamo.config
    config.capture_dynamic_output_shape_ops = True  # words of a mask
    config.allow_rnn = True
    config.recompile_limit = 64  # lengths times kinds of batches
    decoder.compile(fullgraph=True, backend=backend)


def pad_for_graph(tokens: Tensor) -> Tensor:
    """Tokens (B, N, T), T padded to one more than a multiple, so that few lengths are compiled."""
    return functional.pad(tokens, (0, (1 - tokens.shape[-1]) % _STRIDE), value=PAD_ID)


@contextmanager
def compile_errors() -> Iterator[None]:
    """Turn the errors of a compiler into one line.

    Raises:
        ConfigError: instead of what the compiler raises.
    """
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = " ".join(str(error).strip().split("\n\n")[0].split())  # then comes advice
        raise ConfigError(
            f"compile=true, but torch.compile failed: {reason}; install a C++ compiler (g++ or "
            "clang; a GPU needs Triton), or use compile=false."
        ) from error
