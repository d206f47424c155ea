"""The roles do it by themselves: housekeeping asks, and the receiver lets reports in."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from ichnode.service.assembly import open_worklist
from ichnode.settings import load_settings
from tests.archives import Archive, series_of, study_of
from tests.committing import CommittingPacs, report, tell
from tests.node import Node, wait_for

pytestmark = pytest.mark.slow


def test_housekeeping_compares_and_the_receiver_takes_reports(tmp_path):
    """With both configured: a study that never came is shown, a failed job is named."""
    began = datetime.now().astimezone() - timedelta(hours=2)
    held = study_of("1.2.3", series_of("1.2.3.1"), date=f"{began:%Y%m%d}", time=f"{began:%H%M%S}")
    with Archive([held]) as archive, CommittingPacs() as pacs:
        node = Node(tmp_path, destinations=[("pacs", "PACS", pacs.port, False)])
        with node.config.open("a") as file:
            file.write(
                f'commit = true\n[reconcile]\npeer = "ARCHIVE@127.0.0.1:{archive.port}"\n'
                "every_minutes = 0.03\n"
            )
        worklist = open_worklist(load_settings(node.config))
        try:
            port = node.start_receiver()
            assert tell(port, report("1.2.3.4", [], [])) == 0x0115  # heard, and not asked for
            node.start("housekeep")
            wait_for(lambda: worklist.views.not_received().rows, 60, node.log())
            [row] = worklist.views.not_received().rows
            assert (row.study_uid, row.nothing_came) == ("1.2.3", True)
            archive.script = {"STUDY": 0xA700}

            def failing() -> bool:
                beats = worklist.views.heartbeats()
                return any("reconcile" in b.detail.get("failing", ()) for b in beats)

            wait_for(failing, 60, node.log())
            assert worklist.views.not_received().rows
        finally:
            node.stop()
            worklist.close()
