"""``ichnode demo``: the real node, a small PACS and a simulated scanner on this machine.

Everything that is shown is measured in this run: times by this process's clock, the order of the
list at the PACS, the states in the worklist. All scans are simulated, from seeds that no model was
trained on.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ichnode.domain.errors import IchnodeError
from ichnode.send.sender import send_files
from ichnode.service import demo_tables
from ichnode.service.assembly import open_worklist
from ichnode.service.demo_pacs import DemoPacs
from ichnode.service.demo_plan import (
    PlannedStudy,
    ScannedStudy,
    plan,
    scan_all,
    write_configuration,
)
from ichnode.service.supervisor import ROLES
from ichnode.settings import load_settings
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.worklist import Worklist

START_S = 60.0  # how long the node may take to answer
SETTLE_S = 120.0  # how long after the last slice everything may take to settle
POLL_S = 0.25


class DemoFailed(IchnodeError):
    """The demonstration did not come to its end."""


@dataclass
class Scanned:
    """What the simulated scanner did with one study."""

    study: ScannedStudy
    accepted: int = 0
    refused: int = 0
    last_slice_at: float = 0.0  # monotonic, when the node had acknowledged the last slice


@dataclass
class Demonstration:
    """One run of the demonstration."""

    folder: Path
    console: Console
    pacs: DemoPacs
    config: Path
    worklist: Worklist
    scanned: list[Scanned] = field(default_factory=list)

    def node_port(self, node: subprocess.Popen[bytes]) -> int:
        """Wait until every role is up and return the receiver's port."""
        for _ in self._ticks(START_S, "The node did not start"):
            if node.poll() is not None:
                raise DemoFailed(f"The node ended at start; see {self.folder / 'node.log'}.")
            beats = {beat.role: beat for beat in self.worklist.views.heartbeats()}
            if set(ROLES) <= set(beats):
                return int(beats["receive"].detail["port"])
        raise AssertionError  # _ticks raises first

    def web_port(self) -> int:
        """Return where the page is."""
        beats = {beat.role: beat for beat in self.worklist.views.heartbeats()}
        return int(beats["web"].detail["port"])

    def _ticks(self, seconds: float, failure: str) -> Iterator[None]:
        """Look again and again, bounded."""
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while time.monotonic() < deadline:
            yield
            pause.wait(POLL_S)
        raise DemoFailed(f"{failure} within {seconds:.0f} s; see {self.folder / 'node.log'}.")

    def send(self, study: ScannedStudy, port: int) -> None:
        """Send a study to the PACS, as a scanner does, and to the node."""
        scanned = Scanned(study)
        self.scanned.append(scanned)
        for files in study.series.values():
            send_files(
                files,
                host="127.0.0.1",
                port=self.pacs.port,
                called_ae=self.pacs.ae_title,
                calling_ae="SIMCT1",
            )
            results = send_files(
                files, host="127.0.0.1", port=port, called_ae="ICHNODE", calling_ae="SIMCT1"
            )
            scanned.accepted += sum(result.accepted for result in results)
            scanned.refused += sum(not result.accepted for result in results)
            if "head" in study.series and files is study.series["head"]:
                scanned.last_slice_at = time.monotonic()

    def settled(self) -> tuple[int, int]:
        """Return how many series and deliveries have come to their end, and how many there are."""
        counts = self.worklist.views.counts()
        still = (
            counts["series"]["pending"]
            + counts["documents"]["due"]
            + counts["deliveries"]["waiting"]
            + counts["deliveries"]["due"]
        )
        total = sum(sum(counts[name].values()) for name in ("series", "documents", "deliveries"))
        return total - still, total

    def wait_until_settled(self, progress: Progress) -> None:
        """Wait until every series has its statement and everything is delivered."""
        bar = progress.add_task("analysing and reporting", total=None)
        for _ in self._ticks(SETTLE_S, "Not everything settled"):
            done, total = self.settled()
            progress.update(bar, completed=done, total=total)
            if done == total and self.all_recorded():
                return

    def all_recorded(self) -> bool:
        """Whether the worklist has every instance that was acknowledged."""
        rows = self.worklist.views.reading_list(limit=len(self.scanned) + 1)
        recorded = sum(series.instances for row in rows for series in row.series)
        return recorded == sum(scanned.accepted for scanned in self.scanned)


def run_demo(*, studies: int, keep: bool, folder: Path | None) -> int:
    """Run the demonstration and return the exit code.

    Returns
    -------
    int
        0 when every bleed ended above every other study at the PACS and nothing was lost, else 1.
    """
    console = Console()
    with ExitStack() as stack:
        if folder is None:
            made = tempfile.mkdtemp(prefix="ichnode-demo-")
            folder = Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pacs").mkdir(exist_ok=True)
        demo_tables.introduce(console, folder, studies)
        pool = stack.enter_context(ProcessPoolExecutor(2))
        planned = plan(studies)
        scans = scan_all(folder / "scans", planned, pool)
        demonstration = stack.enter_context(_prepared(folder, console))
        node = stack.enter_context(_node(demonstration))
        port = demonstration.node_port(node)
        with _progress(console) as progress:
            bar = progress.add_task("scanning and sending", total=len(planned))
            for scan in scans:
                demonstration.send(scan.result(), port)
                progress.advance(bar)
            demonstration.wait_until_settled(progress)
        ok = demo_tables.conclude(demonstration)
        if keep:
            demo_tables.keep_up(demonstration, port)
            _until_interrupted(node)
        return 0 if ok else 1


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)


@contextmanager
def _prepared(folder: Path, console: Console) -> Iterator[Demonstration]:
    """Start the PACS and create the node's database."""
    pacs = DemoPacs(folder / "pacs")
    try:
        config = write_configuration(folder, ae_title=pacs.ae_title, port=pacs.port)
        settings = load_settings(config)
        engine = connect(settings.node.database.get_secret_value())
        schema.upgrade(engine)
        worklist = open_worklist(settings)
        yield Demonstration(folder, console, pacs, config, worklist)
        worklist.close()
    finally:
        pacs.stop()


@contextmanager
def _node(demonstration: Demonstration) -> Iterator[subprocess.Popen[bytes]]:
    """Run the node with all its roles, as `ichnode run` does, and stop it afterwards."""
    command = [sys.executable, "-m", "ichnode", "--config", str(demonstration.config), "run"]
    with (demonstration.folder / "node.log").open("wb") as journal:
        node = subprocess.Popen(command, stderr=journal, stdout=journal)
        try:
            yield node
        finally:
            node.terminate()
            try:
                node.wait(60)
            except subprocess.TimeoutExpired:
                node.kill()


def _until_interrupted(node: subprocess.Popen[bytes]) -> None:
    try:
        node.wait()
    except KeyboardInterrupt:
        return


def bleeding(studies: Sequence[Scanned]) -> set[str]:
    """Return the UIDs of the studies whose simulated patient bleeds."""
    return {s.study.study_uid for s in studies if s.study.bleeds}


__all__ = ["Demonstration", "PlannedStudy", "Scanned", "bleeding", "run_demo"]
