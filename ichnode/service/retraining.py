"""One retraining: collect, then start ``python -m train retrain`` as a process of its own.

A crash of the training, or its hunger for memory, never touches the node: it runs elsewhere, reads
the export and writes into the registry, and what comes out is a challenger at most.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import structlog

from ichnode.domain.errors import Transient
from ichnode.domain.findings import LABELS
from ichnode.nets.registry import Registry
from ichnode.service.exporting import SERIES, Exported, Exporter, Progress, Window
from ichnode.service.pseudonyms import SALT_FILE, Pseudonyms, site_salt
from ichnode.settings import Settings
from ichnode.spool import make_folder, write_durable
from ichnode.worklist.cases import Case
from ichnode.worklist.history import RETRAINING
from ichnode.worklist.worklist import Worklist

log = structlog.get_logger(__name__)

REFUSED = 3
"""Exit code of the training, and ours: a normal outcome, nothing was changed."""
REQUEST = "requested"
"""The file by which housekeeping asks for a run where systemd starts it."""
_LOCK = ".lock"
_UNFINISHED = "unfinished.json"
"""From which champion, and how, a training that has not ended was started on the export."""

LEAST = {"labelled": 800, "with haemorrhage": 267, "without": 400}
"""Labelled studies without which the usual policy of `train.retrain` refuses."""
LEAST_UNFLAGGED = 0.8  # share of the analysed studies that were not flagged, likewise


class AlreadyRunning(Transient):
    """A retraining is running already; one at a time."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person may say about a run."""

    full: bool = False
    days: float | None = None  # the window; None: as configured
    policy: Path | None = None
    corrections: int = 0
    by: str = ""
    out: Path | None = None  # where export and work go; None: as configured

    def arguments(self) -> list[str]:
        """Return the options that the training is given."""
        found = ["--full"] if self.full else []
        if self.policy is not None:
            found += ["--policy", str(self.policy)]
        if self.corrections:
            found += ["--corrections", str(self.corrections)]
        return [*found, "--by", self.by] if self.by else found


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    kind: Literal["challenger", "refused", "failed", "interrupted"]
    exit_code: int
    report: Path | None
    sentences: tuple[str, ...] = ()  # why it was refused


@dataclass(slots=True)
class Plan:
    """What a run would find."""

    studies: int = 0
    analysed: int = 0
    labelled: int = 0
    usable: int = 0  # labelled, with images that are here or were exported before
    flagged: list[int] = field(default_factory=lambda: [0, 0])  # labelled, all
    unflagged: list[int] = field(default_factory=lambda: [0, 0])
    labels: dict[str, list[int]] = field(
        default_factory=lambda: {label: [0, 0] for label in LABELS}
    )  # present, absent, among the usable
    missing: list[str] = field(default_factory=list)


class Retraining:
    """Runs one retraining at a time.

    Parameters
    ----------
    program : sequence of str
        How the training is started; ``retrain`` and its options follow.
    """

    def __init__(
        self,
        settings: Settings,
        worklist: Worklist,
        *,
        wish: Wish | None = None,
        program: Sequence[str] = (sys.executable, "-m", "train"),
    ) -> None:
        self._settings, self._worklist, self._program = settings, worklist, tuple(program)
        self._wish = wish or Wish()
        self._folder = self._wish.out or settings.retrain.folder
        self._registry = Registry(settings.infer.models)

    @property
    def export_folder(self) -> Path:
        """Where the export goes."""
        return self._folder / "export"

    @property
    def work_folder(self) -> Path:
        """Where the training works."""
        return self._folder / "work"

    def plan(self) -> Plan:
        """Say what a run would find, and how many more of what it would need; write nothing."""
        plan = Plan()
        window = self._window()
        models = self._settings.infer.models
        names = Pseudonyms(site_salt(models)) if (models / SALT_FILE).exists() else None
        for case in self._worklist.cases.between(window.since, window.until):
            self._count(plan, case, names)
        plan.missing = _missing(plan)
        return plan

    def _count(self, plan: Plan, case: Case, names: Pseudonyms | None) -> None:
        best = case.best
        truth = case.truth.about(best.series_uid if best else None)
        known = truth.positive is not None
        plan.studies += 1
        plan.labelled += known
        if best is None or best.said is None:
            return
        plan.analysed += 1
        counted = plan.flagged if case.flagged else plan.unflagged
        counted[1] += 1
        exported = names is not None and self._is_exported(
            names.series(best.series_uid, best.said.set_digest)
        )
        if known and (best.images_here or exported):
            plan.usable += 1
            counted[0] += 1
            for label, there in zip(LABELS, truth.labels, strict=True):
                if there is not None:
                    plan.labels[label][not there] += 1

    def _is_exported(self, key: str) -> bool:
        return (self.export_folder / SERIES / f"{key}.json").is_file()

    def _window(self) -> Window:
        until = self._worklist.cases.now() + timedelta(seconds=1)
        kept = until - timedelta(days=self._settings.retrain.window_days)
        days = self._wish.days or self._settings.retrain.window_days
        return Window(until - timedelta(days=days), until, kept)

    def run(self, progress: Progress) -> Outcome:
        """Collect and train; after a kill the same call goes on where it was.

        Raises
        ------
        AlreadyRunning
            When another run has not ended.
        """
        champion_uid = self._registry.find("champion").model_uid
        with self._alone() as lock:
            (self._folder / REQUEST).unlink(missing_ok=True)
            self._worklist.history.note(RETRAINING, "began", by=self._wish.by or None)
            if self._goes_on(champion_uid):
                log.info("retraining.goes_on", path=str(self.export_folder))
            else:
                self._collect(champion_uid, progress)
                self._begin(champion_uid)
            outcome = self._outcome(*self._train(lock))
            if outcome.exit_code >= 0 and outcome.kind != "interrupted":
                (self._folder / _UNFINISHED).unlink(missing_ok=True)
            self._note(outcome)
        return outcome

    def _start(self, champion_uid: str) -> dict[str, Any]:
        return {"champion": champion_uid, "arguments": self._wish.arguments()}

    def _goes_on(self, champion_uid: str) -> bool:
        """Say whether a training of the same start was cut off: it keeps the studies that it had.

        On a node that receives, collecting again would find one study more, and with it another
        run, which begins anew.
        """
        try:
            kept = json.loads((self._folder / _UNFINISHED).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return (
            bool(kept == self._start(champion_uid))
            and (self.export_folder / "export.json").is_file()
        )

    def _begin(self, champion_uid: str) -> None:
        content = json.dumps(self._start(champion_uid)).encode()
        write_durable(self._folder / _UNFINISHED, content)

    def _collect(self, champion_uid: str, progress: Progress) -> Exported:
        salt = site_salt(self._settings.infer.models)
        exporter = Exporter(
            self._worklist, self._settings.node.spool, self.export_folder, Pseudonyms(salt)
        )
        return exporter.export(self._window(), champion_uid, progress)

    def _train(self, lock: int) -> tuple[int, bool]:
        """Return the exit code of the training, and whether somebody stopped it."""
        command = [
            *self._program,
            "retrain",
            "--export",
            str(self.export_folder),
            "--registry",
            str(self._settings.infer.models),
            "--work",
            str(self.work_folder),
            *self._wish.arguments(),
        ]
        # It holds the lock as well: whatever becomes of us, there is no second run beside it.
        process = subprocess.Popen(command, pass_fds=(lock,))
        with _forwarding(process) as stopped:
            while True:
                try:
                    return process.wait(), stopped.is_set()
                except KeyboardInterrupt:
                    stopped.set()  # it got the signal, too, and leaves a checkpoint

    def _outcome(self, code: int, stopped: bool) -> Outcome:
        if code not in {0, REFUSED}:
            return Outcome("interrupted" if stopped else "failed", code, None)
        report, content = newest_report(self.work_folder)
        if code == 0:
            return Outcome("challenger", code, report)
        refusal = content.get("refusal") or {}
        return Outcome("refused", code, report, tuple(map(str, refusal.get("sentences", ()))))

    def _note(self, outcome: Outcome) -> None:
        history = self._worklist.history
        entry = self._registry.challenger() if outcome.kind == "challenger" else None
        if entry is not None and entry.since is not None:
            history.note_once("challenged", entry.model_uid, entry.since.at, by="ichnode retrain")
        if outcome.kind != "interrupted":  # which is to go on, and so has not ended
            history.note(
                RETRAINING,
                "ended",
                outcome=outcome.kind,
                exit_code=outcome.exit_code,
                reasons=list(outcome.sentences) or None,
            )
        log.info("retraining.ended", outcome=outcome.kind, exit_code=outcome.exit_code)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[int]:
        """Hold the lock of the folder; yield its descriptor."""
        make_folder(self._folder)
        self._folder.chmod(0o700)
        descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _locked(descriptor):
                raise AlreadyRunning
            yield descriptor
        finally:
            os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Take the lock; look again a few times, for somebody may just be asking who holds it."""
    for _ in range(5):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)
    return False


def is_running(folder: Path) -> bool:
    """Say whether a run holds the lock of a folder, be it the node's part or the training."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def newest_report(work: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return the newest page of a retraining, and what its figures say."""
    pages = sorted(work.glob("*/retrain-report.html"), key=lambda page: page.stat().st_mtime_ns)
    if not pages:
        return None, {}
    try:
        content = json.loads(pages[-1].with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    return pages[-1], content if isinstance(content, dict) else {}


@contextlib.contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """Hand a SIGTERM on to the training; yield an event that says that somebody stopped it."""
    stopped = threading.Event()

    def forward(number: int, _frame: object) -> None:
        stopped.set()
        process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGTERM, forward)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)


def _missing(plan: Plan) -> list[str]:
    """Return how many more of what the usual policy needs."""
    there = Counter(
        {
            "labelled": plan.usable,
            "with haemorrhage": plan.labels["any"][0],
            "without": plan.labels["any"][1],
        }
    )
    said = [
        f"{least - there[what]} more studies {what} ({there[what]} of about {least})"
        for what, least in LEAST.items()
        if there[what] < least
    ]
    labelled, total = plan.unflagged
    needed = math.ceil(LEAST_UNFLAGGED * total)
    if labelled < needed:
        said.append(
            f"labels of {needed - labelled} more analysed studies that were not flagged "
            f"({labelled} of {total}; consecutive ones): without them nobody knows what was missed"
        )
    return said


def due_again(last_at: datetime | None, now: datetime, every_days: float) -> bool:
    """Say whether it is time for the next run."""
    return last_at is None or now - last_at >= timedelta(days=every_days)
