"""Devices of this machine, and the number format that makes them fast."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal

import torch

from captionlab.errors import ConfigError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
PrecisionOption = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


def resolve_precision(precision: PrecisionOption, device: torch.device) -> Precision:
    """What `auto` means here; any other choice stays.

    `auto` is bf16 where the hardware multiplies it faster than fp32 (NVIDIA from Ampere on, AMX,
    AMD's AVX-512 bf16, Arm's bf16 on Linux), fp16 on GPUs before Ampere from Volta on, and fp32
    elsewhere: bf16 is emulated there, or takes twice the time (Intel's AVX-512 bf16, see
    docs/speed.md).
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        generation = torch.cuda.get_device_capability(device)[0]  # 7: Volta, 8: Ampere
        return "bf16-mixed" if generation >= 8 else "16-mixed" if generation == 7 else "32-true"
    return "bf16-mixed" if device.type == "cpu" and _bf16_pays_on_cpu() else "32-true"


def _bf16_pays_on_cpu() -> bool:
    if platform.machine() in ("aarch64", "arm64"):
        # On x86 this is true of AVX-512 without bf16, too, on which oneDNN emulates it.
        onednn = torch.backends.mkldnn.is_available()
        return onednn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if torch.cpu._is_amx_tile_supported():
        return True
    return torch.cpu._is_avx512_bf16_supported() and not _is_intel()


def _is_intel() -> bool:
    """Whether Intel made the processor, of the x86 kind."""
    return "GenuineIntel" in (_cpuinfo() or platform.processor())


def hardware(device: torch.device) -> str:
    """The name of the card or of the processor, as the machine gives it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = [line for line in _cpuinfo().splitlines() if line.startswith("model name")]
    names = [line.partition(":")[2].strip() for line in lines]
    return names[0] if names else platform.processor() or platform.machine()


def _cpuinfo() -> str:
    """What Linux says of the processors; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def autocast_dtype(precision: Precision) -> torch.dtype | None:
    """The dtype in which models compute, None for fp32."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)


def find_device(accelerator: str, devices: int | str | list[int] = "auto") -> torch.device:
    """The first of the devices that Lightning's options mean.

    Args:
        accelerator: as Lightning names it.
        devices: as of `devices_asked_for`.

    Raises:
        ConfigError: if the machine has no such device.
    """
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        numbers = device_numbers(devices)
        number = numbers[0] if numbers else torch.cuda.current_device()
        if number >= torch.cuda.device_count():
            raise ConfigError(
                f"trainer.devices={devices}: this machine has no GPU {number}, its "
                f"{torch.cuda.device_count()} are numbered from 0 on."
            )
        return torch.device("cuda", number)
    if accelerator in ("gpu", "mps", "auto") and torch.backends.mps.is_available():
        return torch.device("mps")
    if accelerator not in ("auto", "cpu"):
        raise ConfigError(
            f"trainer.accelerator={accelerator}: torch finds no such device here; use cpu or auto."
        )
    return torch.device("cpu")


def devices_asked_for(devices: int | str | list[int]) -> int | None:
    """How many devices of a machine Lightning's option names; None for all there are.

    Args:
        devices: a number, `-1` or `auto` for all, or their numbers as a list or `0,2`.
    """
    numbers = device_numbers(devices)
    if numbers is not None:
        return len(numbers)
    assert not isinstance(devices, list)
    return None if devices in ("auto", -1, "-1") else int(devices)


def device_numbers(devices: int | str | list[int]) -> list[int] | None:
    """The devices that are listed; None where there is only their number."""
    if isinstance(devices, str) and "," in devices:
        return [int(number) for number in devices.split(",") if number.strip()]
    return list(devices) if isinstance(devices, list | tuple) else None


def num_devices(devices: int | str | list[int], accelerator: str) -> int:
    """How many devices of this machine Lightning's option means.

    Args:
        devices: as of `devices_asked_for`.
        accelerator: as Lightning names it.
    """
    number = devices_asked_for(devices)
    if number is not None:
        return number
    return max(1, torch.cuda.device_count()) if accelerator in ("auto", "gpu", "cuda") else 1
