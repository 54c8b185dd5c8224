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

    Autocast converts each weight once for all uses, whatever the caller has set: Lightning turns
    that off (2.6.6), and in `torch.inference_mode` it does not work (torch 2.11 to 2.14). At each
    step of a search it takes longer than the step's products.
    """

    @wraps(function)
    def computed(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        has_gradients, keeps_converted = torch.is_grad_enabled(), torch.is_autocast_cache_enabled()
        with torch.no_grad():
            torch.set_autocast_cache_enabled(True)
            try:
                return function(*args, **kwargs)
            finally:
                torch.set_autocast_cache_enabled(keeps_converted)
                if has_gradients or not keeps_converted:
                    # The converted weights have no gradient, which the caller may need.
                    torch.clear_autocast_cache()

    return computed
