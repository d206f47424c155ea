"""A node of the tests: the real command in processes of its own, on ports that the system chose."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ichnode.nets.registry import Registry
from ichnode.service.assembly import open_worklist
from ichnode.settings import load_settings
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.worklist import Worklist

START_S = 60.0
ROOT = Path(__file__).parents[1]
CONFIGURATION = """
[node]
host_id = "test"
spool = "{folder}/spool"
database = "{database}"
[receive]
port = 0
reserve_bytes = 0
[series]
plausible_quiet_s = {plausible_s}
final_quiet_s = {final_s}
[queue]
lease_s = 3
poll_s = 0.02
[infer]
models = "{folder}/models"
threads = 1
[report]
negative_sr = {negative_sr}
[send]
retry_first_s = 0.2
[web]
port = 0
[logs]
style = "json"
{destinations}
"""
DESTINATION = """
[[destinations]]
name = "{name}"
ae_title = "{ae_title}"
host = "127.0.0.1"
port = {port}
ups = {ups}
"""


class Ended(AssertionError):
    """A wait came to its deadline."""


def wait_for(question: Callable[[], Any], seconds: float = 30.0, what: str = "") -> Any:
    """Ask until the answer is true, and return it; bounded, and not asleep but waiting."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        pause.wait(0.02)
    raise Ended(f"not within {seconds} s: {what or question}")


class Node:
    """One node: configuration, database, and whatever processes of it run.

    Parameters
    ----------
    folder : Path
        Everything that it writes is below.
    destinations : sequence of (name, ae_title, port, ups)
        Where results go; all on this machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        destinations: Sequence[tuple[str, str, int, bool]] = (),
        database: str | None = None,
        plausible_s: float = 0.5,
        final_s: float = 2.0,
        negative_sr: bool = True,
    ) -> None:
        self.folder = folder
        self.config = folder / "ichnode.toml"
        self.config.write_text(
            CONFIGURATION.format(
                folder=folder,
                database=database or f"sqlite:///{folder}/worklist.db",
                plausible_s=plausible_s,
                final_s=final_s,
                negative_sr=str(negative_sr).lower(),
                destinations="".join(
                    DESTINATION.format(name=n, ae_title=a, port=p, ups=str(u).lower())
                    for n, a, p, u in destinations
                ),
            )
        )
        self.settings = load_settings(self.config)
        self._engine = connect(self.settings.node.database.get_secret_value())
        schema.upgrade(self._engine)
        self.worklist: Worklist = open_worklist(self.settings)
        self.processes: list[subprocess.Popen[bytes]] = []

    def use_model(self, bundle: Path) -> str:
        """Make a bundle the champion of this node and return its UID."""
        registry = Registry(self.settings.infer.models)
        model_uid = registry.install(bundle)
        registry.promote(model_uid)
        return model_uid

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of ichnode with this node's configuration."""
        return [sys.executable, "-m", "ichnode", "--config", str(self.config), *arguments]

    def call(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of ichnode to its end."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=100, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{arguments}: {done.returncode} {done.stdout} {done.stderr}")
        return done

    def start(self, *role: str, wrapper: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start the node, or one role of it, perhaps under a tracer."""
        log = (self.folder / f"{'-'.join(role) or 'node'}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [*wrapper, *self.command("run", *role)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self.processes.append(process)
        return process

    def ready(self, *roles: str, after: float | None = None) -> dict[str, dict[str, Any]]:
        """Wait until these roles have reported, and return what they said of themselves."""

        def heard() -> dict[str, dict[str, Any]] | None:
            for process in self.processes:
                if process.poll() not in (None, 0, -signal.SIGKILL):
                    raise AssertionError(f"a process ended with {process.returncode}: {self.log()}")
            beats = {
                b.role: b.detail
                for b in self.worklist.views.heartbeats()
                if after is None or b.at.timestamp() >= after
            }
            return beats if set(roles) <= set(beats) else None

        return wait_for(heard, START_S, f"{roles} to start; {self.log()}")

    def start_receiver(self) -> int:
        """Start the receive role and return its port."""
        began = time.time()
        self.start("receive")
        return int(self.ready("receive", after=began)["receive"]["port"])

    def log(self) -> str:
        """Return the end of every log, for a failure's message."""
        return "\n".join(
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def series(self) -> dict[str, Any]:
        """Return every series of the reading list by UID."""
        return {
            s.series_uid: s for row in self.worklist.views.reading_list(1000) for s in row.series
        }

    def stop(self) -> None:
        """End every process that this node started."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.worklist.close()

    def status(self) -> dict[str, Any]:
        """Return what `ichnode status --json` says."""
        return json.loads(self.call("status", "--json").stdout)
