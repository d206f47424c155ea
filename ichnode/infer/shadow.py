"""The shadow: a challenger reads what the champion has read, when nothing else is to be done.

Whatever happens to it is caught, logged and recorded; the champion, which runs in the same process,
knows nothing of it. Between two batches of slices it looks whether live work has come, and gives
way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from ichnode.domain.errors import ModelUnusable, NotAnalysable
from ichnode.domain.findings import Finding
from ichnode.domain.work import Declined, Failed, Interrupted, Shadowed, ShadowOutcome, ShadowWork
from ichnode.imaging.selection import judge_headers
from ichnode.imaging.volume import read_series
from ichnode.infer.device import DeviceChoice, engine_makers
from ichnode.infer.predictor import Predictor
from ichnode.infer.stage import unseen_of
from ichnode.nets.bundle import Bundle
from ichnode.nets.registry import Registry
from ichnode.spool import resolve

log = structlog.get_logger(__name__)

BATCH = 8  # slices at a time: live work waits for one batch at most


class _LiveWork(Exception):
    """There is something better to do."""


class ShadowStage:
    """Reads one frozen set at a time with a challenger, which is loaded when it is first needed.

    Parameters
    ----------
    models : Path
        The registry.
    spool : Path
        What the paths in the work are relative to.
    device : {"auto", "cuda", "cpu"}
        Where to run.
    busy : callable
        Says whether live work is due.
    """

    def __init__(
        self, models: Path, spool: Path, *, device: DeviceChoice, busy: Callable[[], bool]
    ) -> None:
        self._registry, self._spool, self._choice = Registry(models), spool, device
        self._busy = busy
        self._predictor: Predictor | None = None
        self._unusable = ""

    @property
    def unusable(self) -> str:
        """The UID of a challenger that cannot be used; asking for it again is of no use."""
        return self._unusable

    def handle(self, work: ShadowWork) -> ShadowOutcome:
        """Read a series; a challenger that cannot be loaded is a failure, and no more than that."""
        try:
            predictor = self._load(work.model_uid)
        except ModelUnusable as error:
            log.error("model.refused", error=str(error), model_uid=work.model_uid)
            self._unusable = work.model_uid
            return Failed(f"ModelUnusable: {error}", transient=False)
        began = time.monotonic()
        try:
            self._give_way()
            files = [(ref.header, resolve(self._spool, ref.path)) for ref in work.instances]
            judge_headers([header for header, _ in files])
            volume = read_series(files, complete=True)
            prediction = predictor.predict(volume)
        except _LiveWork:
            return Interrupted()
        except NotAnalysable as refusal:
            return Declined(refusal.reason, refusal.detail, refusal.may_change)
        negative = prediction.finding is Finding.NEGATIVE
        return Shadowed(
            Finding.REVIEW if negative and unseen_of(volume) else prediction.finding,
            tuple(round(float(p), 6) for p in prediction.series),
            round(time.monotonic() - began, 4),
        )

    def _load(self, model_uid: str) -> Predictor:
        if self._predictor is None or self._predictor.model_uid != model_uid:
            self._predictor = None  # its memory first
            bundle = Bundle.load(self._registry.find(model_uid).folder)
            self._predictor = Predictor(
                bundle, engine_makers(self._choice), batch=BATCH, between=self._give_way
            )
            log.info("model.in_shadow", model_uid=model_uid, device=self._predictor.device)
        return self._predictor

    def _give_way(self) -> None:
        if self._busy():
            raise _LiveWork
