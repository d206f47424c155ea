"""From a volume to probabilities: knows no files, no queue, no thresholds' consequences."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import structlog
import torch
from torch import Tensor

from ichnode.domain.findings import Finding, Presence
from ichnode.imaging.masks import Heat, Mask
from ichnode.imaging.volume import CtVolume
from ichnode.infer.beside import unless_it_fails
from ichnode.infer.device import EngineMaker, engine_makers
from ichnode.infer.engines import Engines
from ichnode.infer.key_slab import KeySlab
from ichnode.nets.bundle import Bundle
from ichnode.nets.calibration import SeriesLogits, read, state
from ichnode.nets.preprocess import Stack, neighbours, standardise, windows
from ichnode.nets.runnable import LARGEST_BATCH, read_areas, read_series
from ichnode.nets.volume import (
    image_mm2,
    raw_volumes_ml,
    scaled_volumes_ml,
    slab_extents_mm,
)

log = structlog.get_logger(__name__)
Floats = npt.NDArray[np.float64]


class LogitsNotFinite(RuntimeError):
    """An engine answered with what is no number; nothing is said of a series on such grounds."""


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
    volume_ml : tuple of float, optional
        Per label, an estimate, of a model that draws masks and knows its factors.
    key_mask : ndarray, bool, (y, x), optional
        Blood of any kind on its key slice, in native pixels: of a positive series, by a model
        whose volumes are shown.
    key_heat : Heat, optional
        How much speaks for blood of any kind where on that slice: of a positive series.
    """

    slices: Floats = field(repr=False)
    series: Floats
    key_slices: tuple[int, ...]
    finding: Finding
    presence: tuple[Presence, ...]
    device: str
    volume_ml: tuple[float, ...] | None = None
    key_mask: Mask | None = field(default=None, repr=False)
    key_heat: Heat | None = None


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
    now_s : callable
        The time in seconds by which engines that failed are tried again.

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
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bundle = bundle
        self._between = between
        self._largest = self._batch = batch
        chosen = engine_makers("auto") if makers is None else makers
        self._engines = Engines(bundle, chosen, now_s)

    @property
    def device(self) -> str:
        """The engine that runs."""
        return self._engines.running.name

    @property
    def lesser(self) -> str | None:
        """Why that is not the best one, a sentence; None where it is."""
        return self._engines.lesser

    @property
    def model_uid(self) -> str:
        """The UID of the model that runs."""
        return self.bundle.manifest.model_uid

    def predict(self, volume: CtVolume) -> Prediction:
        """Read a volume.

        When the device runs out of memory the batch is halved, and when it is lost, or answers with
        what is no number, the next engine takes over, the CPU in the end. Each series begins with
        the whole batch, and after a while with the better engine again (`Engines`).

        Raises
        ------
        RuntimeError
            When the last engine fails too; `LogitsNotFinite` when it is its answer that is none.
        """
        logits, stack = self._persistently(volume)
        manifest, slabs = self.bundle.manifest, stack.slabs
        reading = read(logits.slices, manifest.calibration, logits.series)
        finding, presence = state(reading.series, manifest.thresholds)
        owner = np.repeat(np.arange(len(slabs)), [end - first for first, end in slabs])
        best = reading.slices.argmax(axis=0)
        key_slab = KeySlab(self._engines.running.parts, manifest, stack, int(best[0]))
        volume_ml = unless_it_fails("volume", lambda: self._volume_ml(volume, logits, stack), None)
        key_mask: Mask | None = None
        key_heat: Heat | None = None
        if finding is Finding.POSITIVE:  # no other finding has a key image
            key_mask = unless_it_fails("mask", lambda: key_slab.mask(volume.hu.shape[1:]), None)
            key_heat = unless_it_fails("heat", lambda: key_slab.heat(logits.slices), None)
        return Prediction(
            slices=reading.slices[owner],
            series=reading.series,
            key_slices=tuple((slabs[b][0] + slabs[b][1] - 1) // 2 for b in best),
            finding=finding,
            presence=presence,
            device=self.device,
            volume_ml=volume_ml,
            key_mask=key_mask,
            key_heat=key_heat,
        )

    def _volume_ml(
        self, volume: CtVolume, logits: SeriesLogits, stack: Stack
    ) -> tuple[float, ...] | None:
        """Return the volume of each label, or None where the model has none to give."""
        manifest = self.bundle.manifest
        if manifest.volume is None or logits.areas is None:
            return None
        places_mm = volume.positions_mm.tolist()
        usual_mm = volume.spacing_mm[0]
        extents_mm = slab_extents_mm(stack.slabs, places_mm, usual_mm, manifest.preprocess)
        raw = raw_volumes_ml(logits.areas, image_mm2(stack, volume.spacing_mm), extents_mm)
        scaled = scaled_volumes_ml(raw, manifest.volume.scale)
        return tuple(map(float, scaled)) if np.isfinite(scaled).all() else None

    def _persistently(self, volume: CtVolume) -> tuple[SeriesLogits, Stack]:
        self._engines.try_better()
        self._batch = self._largest
        while True:
            try:
                read = self._logits(volume)
            except torch.OutOfMemoryError as error:
                if self._batch > 1:
                    self._batch //= 2
                    log.warning("batch.halved", device=self.device, size=self._batch)
                else:
                    self._leave(error)
            except RuntimeError as error:  # CUDA's errors are RuntimeErrors, whatever happened
                if self._engines.running.device.type == "cpu" and self._engines.is_last:
                    raise
                self._leave(error)
            else:
                self._engines.worked()
                return read

    def _leave(self, error: RuntimeError) -> None:
        """Go on with the next engine, and the whole batch."""
        self._engines.leave(type(error).__name__)
        self._batch = self._largest

    @torch.inference_mode()
    def _logits(self, volume: CtVolume) -> tuple[SeriesLogits, Stack]:
        """Return the logits of slabs and series, and the slabs."""
        manifest = self.bundle.manifest
        spec = manifest.preprocess
        parts = self._engines.running.parts
        hu = torch.from_numpy(volume.hu).to(parts.device)
        stack = standardise(hu, volume.spacing_mm, volume.positions_mm.tolist(), spec)
        shown = windows(stack.hu, spec)
        around = neighbours(stack.positions_mm, spec).to(shown.device)
        batches = (shown[rows].flatten(1, 2) for rows in self._paced(around))
        logits, features = read_series(parts, batches, stack.positions_mm, manifest)
        if not (np.isfinite(logits.slices).all() and np.isfinite(logits.series).all()):
            # Whatever a context network said is part of both. Areas are none of this: see below.
            raise LogitsNotFinite
        areas = unless_it_fails("volume", lambda: read_areas(parts, features), None)
        return dataclasses.replace(logits, areas=areas), stack

    def _paced(self, around: Tensor) -> Iterator[Tensor]:
        for rows in torch.split(around, self._batch):
            if self._between is not None:
                self._between()
            yield rows
