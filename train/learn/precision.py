"""In which numbers the network is computed; loss and normalisation statistics stay in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.amp.grad_scaler import GradScaler

from train.errors import TrainingError
from train.learn.recipe import Precision

_FIRST_SCALE = 2.0**16
_KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How one run computes.

    Attributes
    ----------
    dtype : torch.dtype
        float32: no mixed precision.
    scaler : GradScaler
        Enabled for float16 alone, whose small gradients would vanish.

    References
    ----------
    Micikevicius P et al., Mixed Precision Training, ICLR 2018.
    """

    device: torch.device
    dtype: torch.dtype
    scaler: GradScaler = field(repr=False)

    @property
    def name(self) -> str:
        """For people: "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @contextmanager
    def reduced(self) -> Iterator[None]:
        """Compute what is within with the numbers of `dtype`."""
        mixed = self.dtype is not torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=mixed):
            yield


def arithmetic(asked: Precision, device: torch.device) -> Arithmetic:
    """Return how to compute on a device; ``auto`` is bfloat16 where the hardware has it."""
    kind = _quickest(device) if asked == "auto" else _KINDS[asked]
    scaler = GradScaler(device.type, init_scale=_FIRST_SCALE, enabled=kind is torch.float16)
    return Arithmetic(device=device, dtype=kind, scaler=scaler)


def _quickest(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if able else torch.float16
    return torch.bfloat16 if cpu_has_bfloat16() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Say whether the CPU multiplies bfloat16 in hardware (AMX or AVX-512); else it is slower."""
    able = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return able and bool(features.get("amx_bf16") or features.get("avx512_bf16"))


def choose_device(asked: str) -> torch.device:
    """Return the device to train on: ``auto`` is CUDA where it is.

    Raises
    ------
    TrainingError
        When CUDA is asked for and not there.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise TrainingError("There is no CUDA device; use --device auto or cpu.")
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    if asked not in ("cpu", "cuda"):
        raise TrainingError("The device is auto, cpu or cuda.")
    return torch.device(asked)
