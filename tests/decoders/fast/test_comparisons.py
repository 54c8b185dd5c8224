"""How the kernels are compiled and run; that they are right, test_additive_attention.py tests."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from numba.core.caching import CompileResultCacheImpl

from captionlab.decoders.fast import comparisons


def test_where_no_folder_can_be_written_kernels_are_compiled_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])
    compiled, _ = comparisons._compiled(comparisons._energies[0].py_func)  # type: ignore[attr-defined]
    keys, query, factor, sums = (
        torch.ones(shape) for shape in ((1, 2, 3), (1, 1, 3), 3, (1, 1, 2))
    )
    compiled(*(tensor.numpy() for tensor in (keys, query, factor, sums)))
    assert sums.tolist() == [[[1.5, 1.5]]]


def test_torch_keeps_its_number_of_threads() -> None:
    code = (
        "import torch; torch.set_num_threads(3); import captionlab.decoders.fast.comparisons; "
        "assert torch.get_num_threads() == 3, torch.get_num_threads()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_forked_process_computes_the_same() -> None:
    code = """
import os, torch
from captionlab.decoders.fast.comparisons import energies
given = torch.rand(2, 5, 3), torch.rand(2, 4, 3), torch.rand(3)
before = energies(*given)
child = os.fork()
if not child:
    os._exit(not torch.allclose(energies(*given), before))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
