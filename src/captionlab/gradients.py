"""Computing without gradients, and what that has to do with number formats."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def without_gradients(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate a function that computes no gradients, however often it uses the weights.

    Not `torch.inference_mode`: in it autocast converts the weights anew at every use, which at
    each step of a search takes longer than the step's products (torch 2.11 to 2.14).
    """

    @wraps(function)
    def computed(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        with torch.no_grad():
            try:
                return function(*args, **kwargs)
            finally:  # the converted weights have no gradient, which the caller may need
                torch.clear_autocast_cache()

    return computed
