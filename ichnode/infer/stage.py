"""The infer stage: judge, read, predict, state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from ichnode.domain.errors import ModelUnusable, NotAnalysable
from ichnode.domain.findings import (
    LABELS,
    AnalysisResult,
    BloodMask,
    Finding,
    HeatMap,
    LabelResult,
    Presence,
)
from ichnode.domain.series import Header, InstanceRef
from ichnode.domain.work import Analysed, AnalysisOutcome, AnalysisWork, Declined, NotYet, Phase
from ichnode.imaging.masks import pack, pack_heat
from ichnode.imaging.selection import judge_headers, suitability
from ichnode.imaging.volume import CtVolume, check_variants, read_series
from ichnode.infer.beside import unless_it_fails
from ichnode.infer.device import DeviceChoice, EngineMaker, engine_makers, set_threads
from ichnode.infer.predictor import Prediction, Predictor
from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest import VolumeSpec
from ichnode.nets.registry import Registry
from ichnode.spool import resolve

log = structlog.get_logger(__name__)

MOST_UNSEEN = 0.1
"""Of the extent, that may lack where no haemorrhage is stated; beyond it a person must look. The
same goes for slices that are there and cannot be decoded or have no place, however few."""
NO_VOLUMES: tuple[float | None, ...] = (None,) * len(LABELS)


class InferStage:
    """Analyses one frozen set of instances at a time with the champion of the registry.

    A new champion is taken between studies, without a restart. One that turns out to be unusable
    is refused, loudly, and the model that ran goes on: the node keeps reading.

    Parameters
    ----------
    models : Path
        The registry.
    spool : Path
        What the paths in the work are relative to.
    device : {"auto", "cuda", "cpu"}
        Where to run.
    threads : int
        CPU threads; 0 takes all cores.
    makers : callable
        Says which engines there are where `device` is chosen.

    Raises
    ------
    ModelUnusable
        When there is no usable champion to start with.
    """

    def __init__(
        self,
        models: Path,
        spool: Path,
        *,
        device: DeviceChoice = "auto",
        threads: int = 0,
        makers: Callable[[DeviceChoice], Sequence[EngineMaker]] = engine_makers,
    ) -> None:
        set_threads(threads)
        self._registry, self._spool = Registry(models), spool
        self._makers = partial(makers, device)
        self._stamp = self._registry.stamp
        self._refused: str | None = None
        self._predictor = self._load()

    @property
    def device_name(self) -> str:
        """The engine that runs, such as "cpu bfloat16"."""
        return self._predictor.device

    @property
    def model_uid(self) -> str:
        """The UID of the model that runs."""
        return self._predictor.model_uid

    def news(self) -> dict[str, Any]:
        """Return what runs at this moment, for the heartbeat; any thread may ask.

        "device", "model_uid", and as "refuses_champion" whether that model reads on because the
        champion cannot be used.
        """
        predictor = self._predictor
        return {
            "device": predictor.device,
            "model_uid": predictor.model_uid,
            "refuses_champion": self._objection() is not None,
        }

    def warnings(self) -> list[str]:
        """Return what does not run as it was wished for, a sentence each; any thread may ask."""
        return [said for said in (self._objection(), self._predictor.lesser) if said]

    def _objection(self) -> str | None:
        """Return why the champion is not used, unless the next study will try another one."""
        try:
            return self._refused if self._registry.stamp == self._stamp else None
        except OSError:
            return self._refused

    def handle(self, work: AnalysisWork) -> AnalysisOutcome:
        """Analyse a series, or say why not."""
        self._follow_champion()
        headers = [instance.header for instance in work.instances]
        try:
            if work.earlier is not None and work.earlier.model_uid == self.model_uid:
                return self._again(work, work.earlier)
            judge_headers(headers)
            return Analysed(self._analyse(work, headers))
        except NotAnalysable as refusal:
            if refusal.may_change and work.phase is Phase.PLAUSIBLE:
                return NotYet(refusal.detail or refusal.reason.sentence)
            return Declined(refusal.reason, refusal.detail, refusal.may_change)

    def _again(self, work: AnalysisWork, earlier: AnalysisResult) -> Analysed:
        """Say what was said before, once all that came since is shown to be header variants."""
        known = self._files(work.instances[: work.earlier_count])
        further = self._files(work.instances[work.earlier_count :])
        judge_headers([header for header, _ in known])
        if further:
            check_variants(known, further)
            log.info("variants.recognised", series=work.series_uid, instances=len(further))
        return Analysed(earlier, kept=True)

    def _files(self, instances: Sequence[InstanceRef]) -> list[tuple[Header, Path]]:
        return [(i.header, resolve(self._spool, i.path)) for i in instances]

    def _analyse(self, work: AnalysisWork, headers: Sequence[Header]) -> AnalysisResult:
        began = time.monotonic()
        instances = self._files(work.instances)
        volume = read_series(instances, complete=work.phase is Phase.FINAL)
        prediction = self._predictor.predict(volume)
        score, _ = suitability(headers, volume)
        result = self._result(volume, prediction, score, time.monotonic() - began)
        log.info(
            "series.analysed",
            series=work.series_uid,
            phase=work.phase.value,
            outcome=result.finding.value,
            instances=len(instances),
            model_uid=result.model_uid,
            device=result.device,
            seconds=result.seconds,
        )
        return result

    def _result(
        self, volume: CtVolume, prediction: Prediction, score: float, seconds: float
    ) -> AnalysisResult:
        manifest = self._predictor.bundle.manifest
        unseen = unseen_of(volume) if prediction.finding is Finding.NEGATIVE else None
        volumes_ml = unless_it_fails(
            "volume", lambda: stated_volumes(prediction, manifest.volume), NO_VOLUMES
        )
        key_uid = volume.slice_uids[prediction.key_slices[0]]
        mask = unless_it_fails("mask", lambda: _outlined(prediction, volumes_ml, key_uid), None)
        heat = unless_it_fails("heat", lambda: _heat(prediction, volume, key_uid), None)
        return AnalysisResult(
            model_uid=self._predictor.model_uid,
            model_name=manifest.name,
            model_version=manifest.version,
            finding=Finding.REVIEW if unseen else prediction.finding,
            labels=tuple(
                LabelResult(
                    label=label,
                    probability=round(float(prediction.series[index]), 6),
                    presence=Presence.UNDETERMINED if unseen else prediction.presence[index],
                    key_sop_uid=volume.slice_uids[prediction.key_slices[index]],
                    volume_ml=volumes_ml[index],
                )
                for index, label in enumerate(LABELS)
            ),
            slice_probabilities=tuple(
                (uid, tuple(round(float(p), 6) for p in row))
                for uid, row in zip(volume.slice_uids, prediction.slices, strict=True)
            ),
            series_score=score,
            operating_point=(
                *zip(LABELS, manifest.thresholds.urgent, strict=True),
                ("review", manifest.thresholds.review),
            ),
            warnings=(*volume.warnings, unseen) if unseen else volume.warnings,
            device=prediction.device,
            seconds=round(seconds, 4),
            key_mask=mask,
            key_heat=heat,
            volume_how=manifest.volume.how if manifest.volume and any(volumes_ml) else "",
        )

    def _load(self) -> Predictor:
        bundle = Bundle.load(self._registry.champion())
        predictor = Predictor(bundle, self._makers())
        log.info(
            "model.loaded",
            model=bundle.manifest.name,
            version=bundle.manifest.version,
            model_uid=predictor.model_uid,
            device=predictor.device,
        )
        return predictor

    def _follow_champion(self) -> None:
        """Take the new champion when the aliases changed."""
        stamp = self._registry.stamp
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            if self._registry.find("champion").model_uid != self.model_uid:
                self._predictor = self._load()
            self._refused = None
        except ModelUnusable as error:
            log.error("model.refused", error=str(error), model_uid=self.model_uid)
            manifest = self._predictor.bundle.manifest
            self._refused = (
                f"The champion cannot be used, and {manifest.name} {manifest.version} reads on: "
                f"{error}"
            )


def stated_volumes(prediction: Prediction, spec: VolumeSpec | None) -> tuple[float | None, ...]:
    """Return the volumes that go into a report, in ml to one decimal, one per label.

    Only of what is present in a positive series, by a model whose volumes are good enough. A bleed
    that no mask covers has no volume, and is never called one of 0 ml.
    """
    if spec is None or prediction.volume_ml is None or prediction.finding is not Finding.POSITIVE:
        return NO_VOLUMES
    said = [round(ml, 1) for ml in prediction.volume_ml]
    return tuple(
        ml if label in spec.shown and there is Presence.PRESENT and ml > 0 else None
        for label, there, ml in zip(LABELS, prediction.presence, said, strict=True)
    )


def _outlined(
    prediction: Prediction, volumes_ml: tuple[float | None, ...], key_uid: str
) -> BloodMask | None:
    """Return the mask that goes with a volume; None where it reaches no pixel of the slice.

    Areas count faint blood too, so that there may be a volume and nothing to outline.
    """
    mask = prediction.key_mask
    if volumes_ml[0] is None or mask is None or not mask.any():
        return None
    return pack(key_uid, mask)


def _heat(prediction: Prediction, volume: CtVolume, key_uid: str) -> HeatMap | None:
    """Return the heat map as it is kept."""
    rows, columns = volume.hu.shape[1:]
    heat = prediction.key_heat
    return None if heat is None else pack_heat(key_uid, (rows, columns), heat)


def unseen_of(volume: CtVolume) -> str | None:
    """Return why nothing can be ruled out from a volume: too much of the head was not seen."""
    unseen = volume.unreadable + volume.unplaced
    if volume.missing <= MOST_UNSEEN and not unseen:
        return None
    return (
        f"nothing is ruled out: {volume.missing:.0%} of the extent missing, "
        f"{unseen} slices unreadable or without a place"
    )
