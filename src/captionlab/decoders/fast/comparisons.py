"""What additive attention computes for every pair of a position and a query, compiled by Numba.

Torch writes these numbers to memory and reads them again for each operation; here they stay in
registers. The plain reference is `additive_attention.plain_additive_attention`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
import torch
from torch import Tensor

# Numba's thread pool of last resort, `workqueue`, aborts the process if two threads use it at once.
_LOCK = threading.Lock()

# Numba ends a process that was forked from this one and uses GNU OpenMP again.
_PROCESS = os.getpid()

_num_threads = torch.get_num_threads()
numba.set_num_threads(1)  # starts the threads, and gives torch as many (numba #9387)
torch.set_num_threads(_num_threads)


def energies(keys: Tensor, query: Tensor, factor: Tensor) -> Tensor:
    """The sum over a of factor_a / (1 + key_a query_a).

    Args:
        keys: (B', P, A).
        query: of the first B <= B' images, (B, K, A).
        factor: (A,).

    Returns:
        (B, K, P).
    """
    sums = query.new_empty(*query.shape[:2], keys.shape[1])
    _run(_energies, keys, query, factor, sums)
    return sums


def add_gradients(
    keys: Tensor, query: Tensor, energy_grad: Tensor, keys_sum: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums of the energies' gradients times c = 1 / (1 + key query), and times its slope c (1 - c).

    Args:
        keys: (B', P, A).
        query: of the first B <= B' images, (B, K, A).
        energy_grad: (B, K, P).
        keys_sum: (B', P, A), to which the sum over queries of gradient times slope is added.

    Returns:
        The sum over positions of gradient times slope, (B, K, A), and over images, positions and
        queries of gradient times c, (A,).
    """
    query_sum = torch.zeros_like(query)
    factor_sum = query.new_zeros(len(query), query.shape[-1])
    _run(_add_gradients, keys, query, energy_grad.contiguous(), keys_sum, query_sum, factor_sum)
    return query_sum, factor_sum.sum(0)


_Kernel = Callable[..., None]


def _run(kernels: tuple[_Kernel, _Kernel], *tensors: Tensor) -> None:
    parallel, serial = kernels
    arrays = [tensor.detach().numpy() for tensor in tensors]
    if os.getpid() != _PROCESS:
        serial(*arrays)
        return
    with _LOCK:
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        parallel(*arrays)


def _compiled(function: _Kernel) -> tuple[_Kernel, _Kernel]:
    """For several threads, and for one in a forked process, which is compiled only there."""
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",  # 1 / 0 is infinite; a test for 0 would keep loops from vectors
        "fastmath": {"reassoc", "contract", "nsz"},  # sums in vectors
    }
    parallel = numba.njit(parallel=True, **options)(function)
    with suppress(RuntimeError):  # no folder for the cache can be written
        parallel.enable_caching()
    return parallel, numba.njit(**options)(function)  # the cache does not tell the two apart


@_compiled
def _energies(keys: Any, query: Any, factor: Any, sums: Any) -> None:
    num_images, num_queries, dim = query.shape
    one = keys.dtype.type(1)  # 1 itself would make float32 float64
    for b in numba.prange(num_images):
        for p in range(keys.shape[1]):
            key = keys[b, p]
            for k in range(num_queries):
                query_k = query[b, k]
                total = 0 * one
                for a in range(dim):
                    total += factor[a] / (one + key[a] * query_k[a])
                sums[b, k, p] = total


@_compiled
def _add_gradients(
    keys: Any, query: Any, energy_grad: Any, keys_sum: Any, query_sum: Any, factor_sum: Any
) -> None:
    num_images, num_queries, dim = query.shape
    one = keys.dtype.type(1)
    for b in numba.prange(num_images):
        factor_b = factor_sum[b]
        for p in range(keys.shape[1]):
            key, keys_p = keys[b, p], keys_sum[b, p]
            for k in range(num_queries):
                query_k, query_sum_k, grad = query[b, k], query_sum[b, k], energy_grad[b, k, p]
                for a in range(dim):
                    compared = one / (one + key[a] * query_k[a])
                    by_factor = grad * compared
                    by_sum = by_factor - by_factor * compared
                    factor_b[a] += by_factor
                    query_sum_k[a] += by_sum
                    keys_p[a] += by_sum
