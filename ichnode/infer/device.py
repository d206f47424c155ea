"""Where and how the networks are executed: the engines, fastest first.

An engine holds callables from a batch of images to features, and from features to logits. The
predictor tries them in order and keeps to the first that passes the model's self-test, so a further
kind (a compiled network, OpenVINO) is one more function here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ichnode.domain.errors import ConfigurationError
from ichnode.nets.runnable import Runnable, prepare

DeviceChoice = Literal["auto", "cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Engine:
    """The networks of a model, ready to run in one way.

    Attributes
    ----------
    name : str
        For people and reports: "cpu bfloat16".
    reduced : bool
        Whether it computes with less than full precision.
    parts : Runnable
        What runs.
    """

    name: str
    reduced: bool
    parts: Runnable = field(repr=False)

    @property
    def device(self) -> torch.device:
        """Where images are prepared and networks run."""
        return self.parts.device

    @property
    def networks(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """By role: images (n, channel, y, x) float32 on `device` to features (n, width)."""
        return self.parts.encoders


EngineMaker = Callable[[Mapping[str, nn.Module]], Engine]


def set_threads(threads: int) -> None:
    """Let torch use so many CPU threads; 0 takes all cores that this process may run on."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))


def engine_makers(choice: DeviceChoice) -> tuple[EngineMaker, ...]:
    """Return the engines that this machine can run, the fastest first, the surest last.

    Raises
    ------
    ConfigurationError
        When CUDA is asked for and not there.
    """
    return tuple(_makers(choice))


def _makers(choice: DeviceChoice) -> Iterator[EngineMaker]:
    has_cuda = choice != "cpu" and torch.cuda.is_available()
    if choice == "cuda" and not has_cuda:
        raise ConfigurationError(
            "infer.device is cuda and there is no CUDA device; use auto or cpu, or mend the driver."
        )
    if has_cuda:
        quick = torch.bfloat16 if _cuda_has_bfloat16() else torch.float16
        yield lambda networks: eager(networks, torch.device("cuda"), quick)
        yield lambda networks: eager(networks, torch.device("cuda"), torch.float32)
    if cpu_has_bfloat16():
        yield lambda networks: eager(networks, torch.device("cpu"), torch.bfloat16)
    yield lambda networks: eager(networks, torch.device("cpu"), torch.float32)


def cpu_has_bfloat16() -> bool:
    """Say whether the CPU multiplies bfloat16 in hardware (AMX or AVX-512); else it is slower."""
    able = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return able and bool(features.get("amx_bf16") or features.get("avx512_bf16"))


def _cuda_has_bfloat16() -> bool:
    """Say whether the GPU multiplies bfloat16 in hardware; older ones do float16 only."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def eager(networks: Mapping[str, nn.Module], device: torch.device, dtype: torch.dtype) -> Engine:
    """Run the networks as they are: channels last, batch normalisation folded away."""
    return Engine(
        name=f"{device.type} {str(dtype).removeprefix('torch.')}",
        reduced=dtype is not torch.float32,
        parts=prepare(networks, device, dtype),
    )
