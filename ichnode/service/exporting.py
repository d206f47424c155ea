"""The site's export: consecutive studies without identities, for training.

Every study of the window is listed, labelled or not, analysed or not, so that nobody can mistake
chosen cases for all of them. Pixels are written of labelled studies only. What was written once
stays when the node purges the images, so that the set grows beyond what the spool holds.

Layout of the folder::

    studies.jsonl        one line per study, in order of arrival
    export.json          what and when; written last, when all else is whole
    series/<key>.npz     hu int16 (z, y, x), spacing_mm (z, y, x), positions_mm (z,)
    series/<key>.json    slices and facts of it; written after the pixels
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.findings import LABELS
from ichnode.domain.labels import Truth
from ichnode.imaging.volume import CtVolume, read_series
from ichnode.service.pseudonyms import Pseudonyms
from ichnode.service.scanner_facts import facts_of
from ichnode.spool import make_folder, resolve, write_durable
from ichnode.worklist.cases import Case, CaseSeries
from ichnode.worklist.worklist import Worklist

log = structlog.get_logger(__name__)

KIND, FORMAT = "ichnode export", 1
LIST, ABOUT, SERIES = "studies.jsonl", "export.json", "series"
Progress = Callable[[int, int], None]
"""Told how many studies of how many are done."""


@dataclass(slots=True)
class Exported:
    """What an export holds."""

    studies: int = 0
    labelled: int = 0
    with_pixels: int = 0
    written: int = 0  # series whose pixels were not there before
    without: Counter[str] = field(default_factory=Counter)  # labelled, by why there are no pixels
    collected: list[str] = field(default_factory=list, repr=False)  # study UIDs


@dataclass(frozen=True, slots=True)
class Window:
    """Which studies.

    Attributes
    ----------
    since, until : datetime
        Those that arrived in between are listed.
    keep_since : datetime
        Pixels of studies that arrived since then are kept, listed or not; older ones are deleted.
    """

    since: datetime
    until: datetime
    keep_since: datetime


class Exporter:
    """Writes one export; safe to be killed and to be run again.

    Parameters
    ----------
    worklist : Worklist
    spool : Path
        Where the images are.
    folder : Path
        Where the export goes; readable by its owner alone.
    pseudonyms : Pseudonyms
        Under the site's salt.
    """

    def __init__(
        self, worklist: Worklist, spool: Path, folder: Path, pseudonyms: Pseudonyms
    ) -> None:
        self._worklist, self._spool, self._folder = worklist, spool, folder
        self._pseudonyms = pseudonyms
        self._done = Exported()

    def export(self, window: Window, champion_uid: str, progress: Progress) -> Exported:
        """Write the studies of a window.

        Raises
        ------
        OutOfSpace
            When the disk is full; what was written is whole, and the next run goes on.
        """
        self._prepare()
        first = min(window.since, window.keep_since)
        total = self._worklist.cases.count(first, window.until)
        lines, keep = [], set()
        for number, case in enumerate(self._worklist.cases.between(first, window.until), 1):
            series = self._pixels(case)
            if series is not None:
                keep.add(series["key"])
            if case.arrived_at >= window.since:
                lines.append(json.dumps(self._line(case, series), sort_keys=True))
                self._count(case, series)
            progress(min(number, total), total)
        progress(total, total)
        write_durable(self._folder / LIST, "".join(f"{line}\n" for line in lines).encode())
        self._write_about(window, champion_uid)
        self._forget(keep)
        self._worklist.labels.mark_collected(self._done.collected)
        log.info("export.written", count=len(lines), items=self._done.with_pixels)
        return self._done

    def _prepare(self) -> None:
        make_folder(self._folder / SERIES)
        self._folder.chmod(0o700)
        (self._folder / ABOUT).unlink(missing_ok=True)  # until all is whole again

    def _write_about(self, window: Window, champion_uid: str) -> None:
        about = {
            "kind": KIND,
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "models": {"champion": champion_uid},
            "window": {"from": _week(window.since), "to": _week(window.until)},
        }
        write_durable(self._folder / ABOUT, (json.dumps(about, indent=1) + "\n").encode())

    def _forget(self, keep: set[str]) -> None:
        """Delete the pixels of whom the window has left behind, or whose label was withdrawn."""
        for path in (self._folder / SERIES).iterdir():
            if path.name.partition(".")[0] not in keep:
                path.unlink(missing_ok=True)

    def _count(self, case: Case, series: dict[str, Any] | None) -> None:
        self._done.studies += 1
        if _truth(case).positive is None:
            return
        self._done.labelled += 1
        if series is not None:
            self._done.with_pixels += 1
        else:
            self._done.without[_why_without(case)] += 1

    def _line(self, case: Case, series: dict[str, Any] | None) -> dict[str, Any]:
        truth = _truth(case)
        return {
            "study": self._pseudonyms.study(case.study_uid),
            "patient": self._pseudonyms.patient(
                case.issuer_of_patient_id, case.patient_id, case.study_uid
            ),
            "arrived_week": _week(case.arrived_at),
            "labels": {
                label: None if there is None else int(there)
                for label, there in zip(LABELS, truth.labels, strict=True)
            },
            "label_source": truth.source,
            "confirmed": truth.positive is not None,  # the table holds the words of people only
            "flagged": case.flagged,
            "band": case.band.value,
            "reason": case.reason,
            "series": series,
            "champion": _champion(case),
        }

    # ------------------------------------------------------------------ pixels

    def _pixels(self, case: Case) -> dict[str, Any] | None:
        """Return what the list says of a study's pixels, written if they are not there yet."""
        best = case.best
        if best is None or best.said is None or _truth(case).positive is None:
            return None
        key = self._pseudonyms.series(best.series_uid, best.said.set_digest)
        stated = self._folder / SERIES / f"{key}.json"
        if not stated.is_file() and not (best.images_here and self._write(best, stated)):
            return None
        self._done.collected.append(case.study_uid)
        about = json.loads(stated.read_text(encoding="utf-8"))
        return {"key": key, "file": f"{SERIES}/{key}.npz", **about}

    def _write(self, series: CaseSeries, stated: Path) -> bool:
        """Write the pixels of a series; False when they cannot be read any more."""
        count = series.said.instance_count if series.said else 0
        instances = [
            (ref.header, resolve(self._spool, ref.path))
            for ref in self._worklist.cases.instances(series.series_id, count)
        ]
        try:
            volume = read_series(instances, complete=True)
        except NotAnalysable as refusal:
            log.warning("series.not_exported", series=series.series_uid, reason=refusal.reason.code)
            return False
        middle = volume.sop_uids[len(volume.sop_uids) // 2]
        header, path = next(pair for pair in instances if pair[0].sop_uid == middle)
        write_durable(stated.with_suffix(".npz"), _arrays(volume))
        about = {"slices": len(volume.hu), "facts": facts_of(header, path)}
        write_durable(stated, json.dumps(about, sort_keys=True).encode())
        self._done.written += 1
        return True


def _arrays(volume: CtVolume) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(
        content,
        hu=volume.hu,
        spacing_mm=np.asarray(volume.spacing_mm, np.float64),
        # From 0 on: where the table stood says nothing, and is one number less to recognise.
        positions_mm=volume.positions_mm - volume.positions_mm[0],
    )
    return content.getvalue()


def _truth(case: Case) -> Truth:
    return case.truth.about(case.best.series_uid if case.best else None)


def _why_without(case: Case) -> str:
    if case.reason:
        return case.reason
    return "unreadable" if case.best and case.best.images_here else "purged"


def _champion(case: Case) -> dict[str, Any] | None:
    if case.best is None or case.best.said is None:
        return None
    said = case.best.said
    return {
        "model_uid": said.model_uid,
        "series_probabilities": [round(p, 6) for p in said.probabilities],
        "seconds": round((said.settled_at - said.started_at).total_seconds(), 3),
    }


def _week(moment: datetime) -> str:
    year, week, _ = moment.astimezone(UTC).isocalendar()
    return f"{year}-W{week:02d}"
