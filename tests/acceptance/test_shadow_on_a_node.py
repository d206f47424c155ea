"""A challenger in the shadow of a running node, and its worker killed in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import UTC, datetime

import pytest

from ichnode.domain.lifecycle import Analysis
from ichnode.nets.registry import Registry
from ichnode.phantom.studies import write_study
from tests.models import write_model
from tests.node import Node, wait_for
from tests.site_kit import arrival_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]
SEED = 940_000


class Site:
    """A node whose infer role runs a champion that finds nothing, and a challenger that does."""

    def __init__(self, folder):
        self.node = Node(folder, plausible_s=0.2, final_s=0.5)
        registry = Registry(self.node.settings.infer.models)
        for version, logit in (("champion", -3.0), ("challenger", 6.0)):
            write_model(folder / version, logit=logit, version=version)
            uid = registry.install(folder / version)
            registry.promote(uid) if version == "champion" else registry.challenge(uid)
        self.challenger = uid
        self.worker = self.node.start("infer")
        self.node.ready("infer")

    def scan(self, seed):
        """Put a study into the spool and the worklist, as a receiver would."""
        spool = self.node.settings.node.spool
        study = write_study(spool / f"s{seed}", seed, bleeds=(), extras=(), slices=24, size_px=64)
        now = datetime.now(UTC)
        self.node.worklist.record([arrival_of(path, spool, now) for path in study.files])
        return study.identity.study_uid

    def figures(self):
        return self.node.worklist.shadow().figures(self.challenger)

    def wait_for_studies(self, count):
        wait_for(lambda: self.figures().studies == count, 60, self.node.log())


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.node.stop()


def test_the_shadow_reads_behind_the_champion_and_shows_nothing(site):
    """Every study is read twice; the list says what the champion says."""
    uids = [site.scan(SEED + number) for number in range(3)]
    site.wait_for_studies(3)
    assert {one.study_uid for one in site.figures().disagreements} == set(uids)
    for uid in uids:
        (series,) = site.node.worklist.views.study(uid).series
        assert series.analysis is Analysis.NEGATIVE
    assert site.node.worklist.views.deliveries() == []
    assert not [row for row in site.node.worklist.views.reading_list() if row.band.rank < 2]


@pytest.mark.peer
@pytest.mark.parametrize("number", [5, 6])
def test_a_worker_that_is_killed_in_the_shadow_is_replaced(site, require_program, number):
    """Killed about the claim or the settling of the shadow: it is read again, once."""
    strace = require_program("strace")
    tracer = subprocess.Popen(
        [strace, "-f", "-e", "trace=fdatasync", "-p", str(site.worker.pid),
         "-e", f"inject=fdatasync:signal=KILL:when={number}"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "attached" in tracer.stderr.readline()
    uid = site.scan(SEED + number)
    try:
        assert site.worker.wait(60) == -signal.SIGKILL, site.node.log()
    finally:
        tracer.kill()
        tracer.communicate()
    site.node.processes.remove(site.worker)
    site.worker = site.node.start("infer")
    site.wait_for_studies(1)
    (series,) = site.node.worklist.views.study(uid).series
    assert series.analysis is Analysis.NEGATIVE
    assert site.figures().failed == 0
    os.kill(site.worker.pid, 0)
