"""``ichnode demo``: the real node, a small PACS and a simulated scanner on this machine.

Everything that is shown is measured in this run: times by this process's clock, the order of the
list at the PACS, the states in the worklist. All scans are simulated, from seeds that no model was
trained on.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ichnode.service import demo_tables
from ichnode.service.assembly import open_worklist
from ichnode.service.demo_pacs import DemoPacs
from ichnode.service.demo_plan import (
    plan,
    scan_all,
    write_configuration,
)
from ichnode.service.demonstration import Demonstration
from ichnode.settings import load_settings
from ichnode.worklist import schema
from ichnode.worklist.engine import connect


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
