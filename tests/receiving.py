"""A receiver in a process of its own, to be killed: ``python -m tests.receiving SPOOL``.

Records into a SQLite file beside the spool; prints its port when it is ready; ends on SIGTERM.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from ichnode.domain.series import Arrival, Refusal
from ichnode.receive.scp import Receiver
from ichnode.service.stopping import Stopping
from ichnode.settings import NodeSettings, ReceiveSettings


class Table:
    """One table; recording an instance again changes nothing."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS instance (uid TEXT, sha256 TEXT, path TEXT, size INTEGER,"
            " times INTEGER DEFAULT 1, PRIMARY KEY (uid, sha256))"
        )

    def record(self, arrivals: Sequence[Arrival]) -> None:
        with self._connection:
            self._connection.executemany(
                "INSERT INTO instance (uid, sha256, path, size) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET times = times + 1",
                [(a.header.sop_uid, a.sha256, a.path, a.size_bytes) for a in arrivals],
            )

    def released(self, association_id: str) -> None:
        """Do nothing."""

    def refuse(self, refusal: Refusal) -> None:
        print("refused", refusal.sentence, file=sys.stderr)


def main(spool: Path) -> None:
    stopping = Stopping().listen()
    receiver = Receiver(
        NodeSettings(host_id="victim", spool=spool),
        ReceiveSettings(port=0, reserve_bytes=0, drain_s=5),
        Table(spool / "rows.db"),
        segment_bytes=256 << 10,
    )
    receiver.start()
    print(receiver.port, flush=True)
    stopping.wait()
    receiver.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
