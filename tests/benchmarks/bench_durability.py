"""Measure what it costs to make one image durable, by layout: why the receiver keeps a journal.

Run it on the file system that will hold the spool::

    python tests/benchmarks/bench_durability.py [FOLDER]

Prints milliseconds per image (median) and images per second of six layouts, and their ratios to the
simplest that keeps promise 1: a file per instance with its folder and a database row.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

IMAGE = os.urandom(1 << 16) * 8 + os.urandom(1200)  # as large as a 512x512 CT
COUNT = 60
PAGE = 4096


def timed(step: Callable[[int], None], count: int = COUNT) -> list[float]:
    """Return the seconds that each of `count` steps took."""
    durations = []
    for number in range(count):
        started = time.monotonic()
        step(number)
        durations.append(time.monotonic() - started)
    return durations


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_file(folder: Path, number: int, *, names_too: bool) -> None:
    """Write one file and make it durable; with `names_too` its name and its folder's as well."""
    shard = folder / f"{number % 256:02x}"
    shard.mkdir(exist_ok=True)
    aside = shard / f"{number}.part"
    with aside.open("wb") as file:
        file.write(IMAGE)
        file.flush()
        os.fsync(file.fileno())
    if names_too:
        aside.replace(shard / f"{number}.dcm")
        sync_folder(shard)


def database(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "rows.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE instance (uid TEXT PRIMARY KEY, header TEXT)")
    return connection


def insert(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO instance VALUES (?, ?)", (f"1.2.{number}", "x" * 800))
    connection.execute("COMMIT")


def preallocated(path: Path, images: int) -> int:
    """Return a descriptor of a file of zeros that really are on the disk."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(images):
        os.write(descriptor, bytes(padded()))
    os.fsync(descriptor)
    return descriptor


def padded() -> int:
    return -(-len(IMAGE) // PAGE) * PAGE


def append(descriptor: int, slot: int) -> None:
    os.pwritev(descriptor, [IMAGE, bytes(padded() - len(IMAGE))], slot * padded())


def group_commit(descriptor: int, writers: int, each: int) -> list[float]:
    """Return the seconds per image of `writers` threads that share their barriers."""
    changed = threading.Condition()
    state = {"written": 0, "durable": 0, "syncing": False}
    durations: list[float] = []

    def wait_for(ticket: int) -> None:
        with changed:
            while state["durable"] < ticket:
                if state["syncing"]:
                    changed.wait()
                    continue
                state["syncing"], upto = True, state["written"]
                changed.release()
                try:
                    os.fdatasync(descriptor)
                finally:
                    changed.acquire()
                state["syncing"], state["durable"] = False, max(state["durable"], upto)
                changed.notify_all()

    def write(first: int) -> None:
        for number in range(each):
            started = time.monotonic()
            append(descriptor, first + number)
            with changed:
                state["written"] += 1
                ticket = state["written"]
            wait_for(ticket)
            durations.append(time.monotonic() - started)

    threads = [threading.Thread(target=write, args=(n * each,)) for n in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return durations


def measure(folder: Path) -> dict[str, tuple[float, float]]:
    """Return milliseconds (median) and images per second by layout."""
    rows = database(folder)
    results: dict[str, tuple[float, float]] = {}

    def note(name: str, run: Callable[[], list[float]]) -> None:
        started = time.monotonic()
        durations = run()
        rate = len(durations) / (time.monotonic() - started)
        results[name] = (statistics.median(durations) * 1000, rate)

    def file_and_row(number: int) -> None:
        new_file(folder / "c", number, names_too=True)
        insert(rows, number)

    def appended(number: int) -> None:
        append(journal, number)
        os.fdatasync(journal)

    for name in "abc":
        (folder / name).mkdir()
    journal = preallocated(folder / "journal", COUNT)
    note("file", lambda: timed(lambda n: new_file(folder / "a", n, names_too=False)))
    note("file and folder", lambda: timed(lambda n: new_file(folder / "b", n, names_too=True)))
    note("file, folder and row", lambda: timed(file_and_row))
    note("journal, one writer", lambda: timed(appended))
    note("journal, four writers in turn", lambda: group_commit(journal, 4, COUNT // 4))
    os.close(journal)
    rows.close()
    return results


def main() -> None:
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=place, prefix="ichnode-durability-") as name:
        results = measure(Path(name))
    reference = results["file, folder and row"][1]
    print(f"{'layout':32}{'ms':>8}{'images/s':>10}{'ratio':>8}")
    for layout, (milliseconds, rate) in results.items():
        print(f"{layout:32}{milliseconds:8.2f}{rate:10.0f}{rate / reference:8.2f}")


if __name__ == "__main__":
    main()
