"""The infer room at work: engines that do as they are told, models in a registry, files as work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ichnode.domain.series import InstanceRef
from ichnode.domain.work import AnalysisWork, Lease, Phase
from ichnode.imaging.header import read_header
from ichnode.infer.device import Engine, eager
from ichnode.nets.registry import Registry
from tests.models import write_model

LEASE = Lease(1, "token", 1, datetime(2026, 1, 1, tzinfo=UTC))


def exact(networks: Mapping[str, nn.Module]) -> Engine:
    return eager(networks, torch.device("cpu"), torch.float32)


def around(
    engine: Engine, name: str, change: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
) -> Engine:
    """An engine whose networks are called in another way."""
    encoders = {role: partial(change, run) for role, run in engine.networks.items()}
    return dataclasses.replace(
        engine, name=name, parts=dataclasses.replace(engine.parts, encoders=encoders)
    )


class Tried:
    """An engine that may be made or not, and whose device reads or not, as set from outside."""

    def __init__(self, name: str, *, made: bool = True, reads: bool = True) -> None:
        self.name, self.made, self.reads, self.off, self.tries = name, made, reads, 0.0, 0

    def __call__(self, networks: Mapping[str, nn.Module]) -> Engine:
        self.tries += 1
        if not self.made:
            raise RuntimeError("no such device")
        return around(exact(networks), self.name, self.run)

    def run(self, run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        if not self.reads and len(images) > 8:  # the self-test has eight
            raise RuntimeError("as told")
        return run(images) + self.off


def install(models: Path, folder: Path, *, logit: float, version: str = "1") -> str:
    write_model(folder, logit=logit, version=version)
    registry = Registry(models)
    uid = registry.install(folder)
    registry.promote(uid)
    return uid


def work_on(spool: Path, files: Sequence[Path], phase: Phase = Phase.FINAL) -> AnalysisWork:
    headers = [read_header(path) for path in files]
    return AnalysisWork(
        lease=LEASE,
        series_uid=headers[0].series_uid,
        study_uid=headers[0].study_uid,
        generation=1,
        set_digest="digest",
        phase=phase,
        instances=tuple(
            InstanceRef("0" * 64, path.relative_to(spool).as_posix(), "1.2.840.10008.1.2.1", header)
            for path, header in zip(files, headers, strict=True)
        ),
        earlier=None,
    )
