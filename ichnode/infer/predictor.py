"""From a volume to probabilities: knows no files, no queue, no thresholds' consequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import structlog
import torch
from torch import Tensor

from ichnode.domain.errors import ModelUnusable
from ichnode.domain.findings import Finding, Presence
from ichnode.imaging.volume import CtVolume
from ichnode.infer.device import Engine, EngineMaker, engine_makers
from ichnode.nets.bundle import Bundle
from ichnode.nets.calibration import SeriesLogits, read, state
from ichnode.nets.preprocess import neighbours, standardise, windows
from ichnode.nets.runnable import LARGEST_BATCH, read_logits
from ichnode.nets.selftest import self_test_series

log = structlog.get_logger(__name__)
Floats = npt.NDArray[np.float64]
Slabs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of a volume.

    Attributes
    ----------
    slices : ndarray, float64, (z, label)
        Calibrated probability of each native slice; thin slices share that of their slab.
    series : ndarray, float64, (label,)
        Calibrated probability of the series.
    key_slices : tuple of int
        Per label, the native slice that shows it best.
    """

    slices: Floats = field(repr=False)
    series: Floats
    key_slices: tuple[int, ...]
    finding: Finding
    presence: tuple[Presence, ...]
    device: str


class Predictor:
    """A model on a device.

    Parameters
    ----------
    bundle : Bundle
        The model.
    makers : sequence of EngineMaker, optional
        The engines to try, the best first; by default what the machine has.
    batch : int
        Slices at a time.
    between : callable, optional
        Called before each batch; what it raises ends the reading.

    Raises
    ------
    ModelUnusable
        When the model fails its self-test on every engine.
    """

    def __init__(
        self,
        bundle: Bundle,
        makers: Sequence[EngineMaker] | None = None,
        *,
        batch: int = LARGEST_BATCH,
        between: Callable[[], None] | None = None,
    ) -> None:
        self.bundle = bundle
        self._between = between
        self._makers = list(engine_makers("auto") if makers is None else makers)
        self._largest = self._batch = batch
        self._engine = self._next_engine()

    @property
    def device(self) -> str:
        """The engine that runs."""
        return self._engine.name

    @property
    def model_uid(self) -> str:
        """The UID of the model that runs."""
        return self.bundle.manifest.model_uid

    def predict(self, volume: CtVolume) -> Prediction:
        """Read a volume.

        When the device runs out of memory the batch is halved, and when it is lost the next engine
        takes over, the CPU in the end.
        """
        logits, slabs = self._persistently(volume)
        manifest = self.bundle.manifest
        reading = read(logits.slices, manifest.calibration, logits.series)
        finding, presence = state(reading.series, manifest.thresholds)
        owner = np.repeat(np.arange(len(slabs)), [end - first for first, end in slabs])
        best = reading.slices.argmax(axis=0)
        return Prediction(
            slices=reading.slices[owner],
            series=reading.series,
            key_slices=tuple((slabs[b][0] + slabs[b][1] - 1) // 2 for b in best),
            finding=finding,
            presence=presence,
            device=self.device,
        )

    def _persistently(self, volume: CtVolume) -> tuple[SeriesLogits, Slabs]:
        while True:
            try:
                return self._logits(volume)
            except torch.OutOfMemoryError:
                self._shrink()
            except RuntimeError as error:  # CUDA's errors are RuntimeErrors, whatever happened
                if self._engine.device.type == "cpu" and not self._makers:
                    raise
                log.error("device.lost", device=self.device, error=type(error).__name__)
                self._engine = self._next_engine()

    def _shrink(self) -> None:
        if self._batch > 1:
            self._batch //= 2
            log.warning("batch.halved", device=self.device, size=self._batch)
        else:
            log.error("device.out_of_memory", device=self.device)
            self._engine = self._next_engine()
            self._batch = self._largest

    @torch.inference_mode()
    def _logits(self, volume: CtVolume) -> tuple[SeriesLogits, Slabs]:
        """Return the logits of slabs and series, and the native slices of each slab."""
        manifest = self.bundle.manifest
        spec = manifest.preprocess
        hu = torch.from_numpy(volume.hu).to(self._engine.device)
        stack = standardise(hu, volume.spacing_mm, volume.positions_mm.tolist(), spec)
        shown = windows(stack.hu, spec)
        around = neighbours(stack.positions_mm, spec).to(shown.device)
        batches = (shown[rows].flatten(1, 2) for rows in self._paced(around))
        return read_logits(self._engine.parts, batches, stack.positions_mm, manifest), stack.slabs

    def _paced(self, around: Tensor) -> Iterator[Tensor]:
        for rows in torch.split(around, self._batch):
            if self._between is not None:
                self._between()
            yield rows

    def _next_engine(self) -> Engine:
        """Return the first engine left that passes the self-test."""
        while self._makers:
            make = self._makers.pop(0)
            try:
                engine = make(self.bundle.networks)
                off = self._self_test(engine)
            except RuntimeError as error:
                log.warning("engine.failed", error=type(error).__name__)
                continue
            if off is None:
                return engine
            log.warning("engine.differs", engine=engine.name, detail=off)
        raise ModelUnusable(
            f"The model {self.bundle.manifest.name} fails its self-test on this machine: its "
            "logits are not the ones that it was exported with."
        )

    def _self_test(self, engine: Engine) -> str | None:
        """Return None when the logits are the expected ones, else by how much they differ."""
        manifest = self.bundle.manifest
        test = manifest.self_test
        images, positions_mm = self_test_series(manifest.preprocess)
        found = read_logits(engine.parts, (images.to(engine.device),), positions_mm, manifest)
        allowed = test.tolerance_reduced if engine.reduced else test.tolerance_full
        pairs = [(found.slices, np.asarray(test.expected))]
        if test.expected_series is not None:
            pairs.append((found.series, np.asarray(test.expected_series)))
        for logits, expected in pairs:
            if logits.shape != expected.shape:
                return f"{logits.shape} in place of {expected.shape}"
            greatest = float(np.abs(logits - expected).max())
            if not greatest <= allowed:
                return f"{greatest:.3g} above {allowed:g}"
        return None
