"""A site of the tests: simulated studies in a spool, recorded, analysed by hand, labelled."""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ichnode.domain.findings import Label
from ichnode.domain.labels import LabelSource, completed
from ichnode.domain.series import Arrival
from ichnode.domain.work import AnalysisOutcome
from ichnode.imaging.header import read_header
from ichnode.phantom.studies import Extra, StudyFiles, write_study
from ichnode.worklist.labels import LabelLine, Outcome
from ichnode.worklist.worklist import Worklist
from tests.worklist_kit import HandClock

FIRST_SEED = 930_000
SLICES = 24


@functools.cache
def _written(seed: int, bleeds: tuple[Label, ...], extras: tuple[Extra, ...]) -> StudyFiles:
    """Simulate a study once for all tests of a process."""
    folder = Path(tempfile.mkdtemp(prefix="ichnode-site-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_study(folder, seed, bleeds=bleeds, extras=extras, slices=SLICES, size_px=64)


def arrival_of(path: Path, spool: Path, received_at: datetime, calling_ae: str = "CT1") -> Arrival:
    """A file of the spool as the receiver would record it."""
    content = path.read_bytes()
    return Arrival(
        header=read_header(path),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        sha256=hashlib.sha256(content).hexdigest(),
        path=path.relative_to(spool).as_posix(),
        size_bytes=len(content),
        received_at=received_at,
        association_id="a1",
        calling_ae=calling_ae,
        called_ae="ICHNODE",
        peer_address="127.0.0.1",
    )


@dataclass
class SimulatedSite:
    """Studies come in one after the other."""

    worklist: Worklist
    clock: HandClock
    spool: Path
    studies: list[StudyFiles] = field(default_factory=list)

    def scan(
        self,
        outcome: AnalysisOutcome,
        *,
        bleeds: Sequence[Label] = (),
        extras: Sequence[Extra] = (),
        extra_outcome: AnalysisOutcome | None = None,
    ) -> StudyFiles:
        """Receive a study; `outcome` is said of its head, `extra_outcome` of all else."""
        seed = FIRST_SEED + len(self.studies)
        made = _written(seed, tuple(bleeds), tuple(extras))
        folder = self.spool / f"s{seed}"
        series = {}
        for name, files in made.series.items():
            shutil.copytree(files[0].parent, folder / name)
            series[name] = [folder / name / file.name for file in files]
        study = replace(made, series=series)
        self.studies.append(study)
        self.worklist.record(
            [arrival_of(path, self.spool, self.clock.now()) for path in study.files]
        )
        self.clock.forward(60)
        head = study.series_uid("head")
        for _ in study.series:
            work = self.worklist.analyses.claim("test")
            assert work is not None
            said = outcome if work.series_uid == head else extra_outcome
            assert said is not None
            assert self.worklist.analyses.settle(work, said)
        return study

    def label(
        self, study: StudyFiles, *, source: LabelSource = "reader", **stated: bool
    ) -> Outcome:
        """Say what is true of a study."""
        line = LabelLine(
            2,
            study.identity.study_uid,
            "",
            "",
            completed(stated),
            source,
            "Dr B",  # type: ignore[arg-type]
        )
        return self.worklist.labels.enter([line])[0].outcome
