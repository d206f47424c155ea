"""One run of the demonstration: what was sent, and the questions that its end depends on."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from ichnode.domain.errors import IchnodeError
from ichnode.send.sender import send_files
from ichnode.service.demo_pacs import DemoPacs
from ichnode.service.demo_plan import ScannedStudy
from ichnode.service.supervisor import ROLES
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
