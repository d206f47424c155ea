"""What housekeeping deletes and what it never does; real files, and a worklist of either engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ichnode.domain.findings import Finding
from ichnode.service import roles
from ichnode.service.housekeeping import Housekeeping
from ichnode.service.roles import Presence
from ichnode.service.stopping import Stopping
from ichnode.settings import HousekeepSettings, Settings
from ichnode.spool import document_path
from ichnode.worklist.worklist import Worklist
from tests.worklist_kit import HandClock, analysed, build, fresh_uid, look, send, slices

DAY_S = 86_400.0
GIB = 1 << 30
KEEP = HousekeepSettings(retention_days=14, label_wait_days=90, disk_budget_bytes=GIB)
DEADLINE_S = 20.0
AMPLE = (100 * GIB, 50 * GIB, 50 * GIB)


class Site:
    """A worklist with a clock, and a spool with the files of what was recorded."""

    def __init__(self, worklist: Worklist, clock: HandClock, spool: Path) -> None:
        self.worklist, self.clock, self.spool = worklist, clock, spool
        self.disk = AMPLE

    def keeper(self, settings: HousekeepSettings = KEEP, reserve_bytes: int = GIB) -> Housekeeping:
        """Return the housekeeping of this spool, on a disk as large as `disk` says."""
        return Housekeeping(
            self.worklist,
            self.spool,
            settings,
            reserve_bytes,
            measure=lambda _folder: self.disk,
            batch=3,
        )

    def study(
        self, finding: Finding | None = Finding.NEGATIVE, *, size_bytes: int = 1000
    ) -> list[Path]:
        """Receive a study of three slices and let the model speak; return its files."""
        uid = fresh_uid()
        arrivals = [replace(one, size_bytes=size_bytes) for one in slices(3, series_uid=uid)]
        self.worklist.record(arrivals)
        files = [self.spool / one.path for one in arrivals]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"an image")
        self.clock.forward(20)
        if finding is not None:
            look(self.worklist, analysed(finding))
        return files

    def deliver(self) -> None:
        """Build and send whatever is due."""
        self.clock.forward(400)
        build(self.worklist)
        send(self.worklist)

    def days(self, count: float) -> None:
        """Let time pass."""
        self.clock.forward(count * DAY_S)


@pytest.fixture
def site(worklist: Worklist, hand_clock: HandClock, tmp_path: Path) -> Site:
    """A node's worklist and spool."""
    return Site(worklist, hand_clock, tmp_path / "spool")


def there(files: list[Path]) -> int:
    """Count the files that exist."""
    return sum(file.exists() for file in files)


def test_what_is_not_delivered_stays_for_ever(site: Site) -> None:
    """However old it is and however short the disk: an undelivered positive, an unseen series."""
    positive, unseen = site.study(Finding.POSITIVE), site.study(None)
    site.days(1000)
    site.disk = (100 * GIB, 100 * GIB, 0)
    keeper = site.keeper()
    assert keeper.sweep() == 0
    assert keeper.guard() == 0
    assert there(positive + unseen) == 6


def test_what_is_delivered_and_old_goes_with_its_files(site: Site) -> None:
    """Neither the young nor what waits for a label goes along; the row says that it went."""
    site.study(Finding.POSITIVE)
    site.deliver()
    old = [*site.spool.glob("instances/*/*.dcm")]
    site.days(91)
    young = site.study(Finding.POSITIVE)
    site.deliver()
    before = site.worklist.spool_bytes()
    keeper = site.keeper()
    assert keeper.sweep() == 3
    assert there(old) == 0
    assert there(young) == 3
    assert site.worklist.spool_bytes() == before - 3000
    assert keeper.sweep() == 0


@pytest.mark.parametrize(("age_days", "purged"), [(15, 0), (89, 0), (91, 3)])
def test_what_may_still_be_labelled_waits(site: Site, age_days: float, purged: int) -> None:
    """Analysed studies are kept past the retention for as long as a label may come."""
    site.study(Finding.POSITIVE)
    site.deliver()
    site.days(age_days)
    assert site.keeper().sweep() == purged


def test_without_a_wait_for_labels_the_retention_decides(site: Site) -> None:
    """From the day on, and not before."""
    site.study(Finding.POSITIVE)
    site.deliver()
    keeper = site.keeper(KEEP.model_copy(update={"label_wait_days": 0.0}))
    site.days(13)
    assert keeper.sweep() == 0
    site.days(1)
    assert keeper.sweep() == 3


def test_above_the_budget_the_oldest_delivered_study_goes_first(site: Site) -> None:
    """Only the guard does so, however young the study is, and it stops when there is room."""
    first = site.study(size_bytes=GIB // 5)
    site.deliver()
    second = site.study(size_bytes=GIB // 5)
    site.deliver()
    keeper = site.keeper()
    assert keeper.sweep() == 0
    assert keeper.guard() == 3
    assert (there(first), there(second)) == (0, 3)
    assert keeper.guard() == 0


@pytest.mark.parametrize(
    ("total", "free", "reserve", "purged"),
    [
        (100 * GIB, 4 * GIB, GIB, 3),  # below 5 % of the disk
        (100 * GIB, 6 * GIB, GIB, 0),
        (20 * GIB, 5 * GIB, 3 * GIB, 3),  # below twice the reserve, and above the reserve itself
        (20 * GIB, 7 * GIB, 3 * GIB, 0),
        (100 * GIB, 0, 0, 0),  # no reserve: nothing is guarded but the budget
    ],
)
def test_room_is_made_before_the_receiver_refuses(
    site: Site, total: int, free: int, reserve: int, purged: int
) -> None:
    """The low-water mark is twice the reserve or 5 % of the disk, whichever is more."""
    files = site.study()
    site.deliver()
    site.disk = (total, total - free, free)
    assert site.keeper(reserve_bytes=reserve).guard() == purged
    assert there(files) == 3 - purged


def test_a_file_that_cannot_be_deleted_does_not_save_the_others(site: Site) -> None:
    """The failure is told after the rest is done."""
    files = site.study()
    site.deliver()
    files[0].unlink()
    files[0].mkdir()
    site.days(91)
    with pytest.raises(OSError, match=files[0].name):
        site.keeper().sweep()
    assert there(files[1:]) == 0


def test_what_a_killed_process_left_half_written_goes_after_a_day(site: Site) -> None:
    """Of images and documents; what is being written, and what has its name, stays."""
    document = site.spool / document_path("cd" * 32)
    files = [*site.study(None), document]
    document.parent.mkdir(parents=True)
    document.write_bytes(b"a document")
    left = [file.with_name(f".{file.name}.1.2.part") for file in (files[0], document)]
    for half in left:
        half.write_bytes(b"ha")
        day_ago = half.stat().st_mtime - DAY_S - 1
        os.utime(half, (day_ago, day_ago))
        half.with_name(f".{half.name[1:-10]}.1.3.part").write_bytes(b"ha")
    assert site.keeper().tidy() == 2
    assert there(left) == 0
    assert there(files) == 4
    assert len([*site.spool.rglob("*.part")]) == 2


def wait_until(question: Callable[[], bool]) -> bool:
    """Ask until the answer is yes, or the deadline has come."""
    pause = threading.Event()
    for _ in range(int(DEADLINE_S / 0.01)):
        if question():
            return True
        pause.wait(0.01)
    return False


def test_a_failing_job_shows_in_the_heartbeat_until_it_succeeds(site: Site) -> None:
    """A disk that cannot be measured: the guard is named, the sweep is not."""
    site.study(None)
    mounted = threading.Event()

    def measure(_folder: Path) -> tuple[int, int, int]:
        if not mounted.is_set():
            raise OSError(5, "Input/output error")
        return AMPLE

    keeper = Housekeeping(
        site.worklist, site.spool, KEEP, GIB, measure=measure, guard_every=timedelta(seconds=0.05)
    )

    def beat() -> dict[str, object]:
        stopping = Stopping()
        Presence("housekeep", Settings(), site.worklist, stopping, failing=keeper.failing).begin()
        stopping.event.set()
        (pulse,) = site.worklist.views.heartbeats()
        return pulse.detail

    keeper.start()
    try:
        assert wait_until(lambda: keeper.failing() == ["guard"])
        assert beat() == {"failing": ["guard"]}
        mounted.set()
        assert wait_until(lambda: not keeper.failing())
        assert beat() == {}
    finally:
        keeper.stop()


def test_a_loop_that_died_beside_the_others_is_named(
    worklist: Worklist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notifier, say: nobody would learn that a subscriber is told nothing any more."""
    monkeypatch.setattr(roles, "HEARTBEAT_S", 0.02)
    stopping = Stopping()

    class Broken:
        def claim(self, owner: str) -> None:
            raise KeyError(owner)

    def loop(name: str, queue: object) -> roles.StageLoop:
        return roles._loop(name, queue, object(), Settings(), stopping, worklist)

    loops, beside = [loop("report", worklist.documents)], [loop("notify", Broken())]
    running = threading.Thread(
        target=roles._run_loops,
        args=("deliver", loops, Settings(), worklist, stopping),
        kwargs={"beside": beside},
    )
    running.start()
    try:
        assert wait_until(
            lambda: [one.detail for one in worklist.views.heartbeats()] == [{"failing": ["notify"]}]
        )
        assert running.is_alive()
    finally:
        stopping.event.set()
        running.join()
