"""The cache of training: interrupted builds, quarantine, and what a view gives out of it."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ichnode.domain.findings import LABELS
from tests.training_data import SPEC, ToySource
from train.data.cache import Cache, build_cache, open_cache, open_quarantine
from train.data.views import all_slices
from train.errors import TrainingError

ROOT = Path(__file__).parents[2]
BUILD = """
import sys
from pathlib import Path
from tests.training_data import SPEC, ToySource
from train.data.cache import build_cache
source = ToySource(7, stuck=frozenset("4"), unusable=frozenset("1"), masked=frozenset("2"))
build_cache(Path(sys.argv[1]), source, SPEC, workers=int(sys.argv[2]))
"""
FILES = ("hu.bin", "kinds.bin", "index.jsonl", "cache.json", "sources.json", "quarantine.jsonl")


def built(folder: Path, source: ToySource, workers: int = 1) -> Cache:
    return build_cache(folder, source, SPEC, workers=workers)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def wait_until(condition, deadline_s: float = 45.0) -> None:
    end = time.monotonic() + deadline_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        pause.wait(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_build_goes_on_to_the_same_bytes(tmp_path: Path, workers: int) -> None:
    """Killed (-9) in the middle, the same command ends as if nothing had been; nobody is left."""
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", BUILD, str(folder), str(workers)]
    killed = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_until(lambda: lines(folder / "index.jsonl") == 3 or killed.poll() is not None)
    family = children(killed.pid)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert lines(folder / "index.jsonl") == 3
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))
    source = ToySource(7, unusable=frozenset("1"), masked=frozenset("2"))
    built(folder, source, workers=workers)
    built(tmp_path / "whole", source)
    assert contents(folder) == contents(tmp_path / "whole")


def test_torn_files_are_mended(tmp_path: Path) -> None:
    """Pixels without a line, and half a line, are cut off and written again."""
    whole = built(tmp_path / "whole", ToySource(4, unusable=frozenset("2")))
    build_cache(tmp_path / "torn", ToySource(4), SPEC, workers=1, jobs=["0"])
    for name in ("hu.bin", "kinds.bin", "index.jsonl", "quarantine.jsonl"):
        with (tmp_path / "torn" / name).open("ab") as file:
            file.write(b'{"dataset": "toy", "jo')
    torn = built(tmp_path / "torn", ToySource(4, unusable=frozenset("2")))
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")
    pd.testing.assert_frame_equal(torn.slices, whole.slices)


def test_processes_change_nothing(tmp_path: Path) -> None:
    """Two processes give the bytes of one, whatever is left out."""
    source = ToySource(7, unusable=frozenset("25"), masked=frozenset("4"))
    built(tmp_path / "one", source, workers=1)
    built(tmp_path / "two", source, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_reader_that_dies_costs_its_series_alone(tmp_path: Path) -> None:
    """A decoder that crashes its process is quarantined; all others are read, in order."""
    cache = built(tmp_path, ToySource(6, deadly=frozenset("3")), workers=2)
    assert cache.slices["job"].drop_duplicates().tolist() == ["0", "1", "2", "4", "5"]
    whole = cache.quarantine[cache.quarantine["slice"] == ""]
    assert whole[["job", "reason"]].values.tolist() == [["3", "reader crashed"]]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_ours_costs_its_series_alone(tmp_path: Path, workers: int) -> None:
    """What nobody thought of is quarantined with type and place, and without its text."""
    cache = built(tmp_path, ToySource(4, odd=frozenset("2")), workers=workers)
    assert cache.slices["job"].drop_duplicates().tolist() == ["0", "1", "3"]
    found = cache.quarantine[cache.quarantine["job"] == "2"].iloc[0]
    assert found["reason"] == "unexpected error"
    assert found["detail"].startswith("ZeroDivisionError at training_data.py:")


def test_another_preprocessing_is_refused(tmp_path: Path) -> None:
    """Sizes are not mixed; windows and context, which are applied later, may differ."""
    built(tmp_path, ToySource(2))
    build_cache(
        tmp_path,
        ToySource(2),
        dataclasses.replace(SPEC, windows_hu=((-10.0, 90.0),), context_slices=3),
        workers=1,
    )
    with pytest.raises(TrainingError, match="another size"):
        build_cache(tmp_path, ToySource(2), dataclasses.replace(SPEC, size_px=48), workers=1)


def test_changed_labels_are_refused(tmp_path: Path) -> None:
    """A corrected CSV is not passed over in silence because its series are in the cache."""
    built(tmp_path, ToySource(2, labels_digest="old"))
    built(tmp_path, ToySource(3, labels_digest="old"))
    with pytest.raises(TrainingError, match="labels of toy, or what simulates them, are others"):
        built(tmp_path, ToySource(3, labels_digest="new"))


def test_the_quarantine_says_what_and_why(tmp_path: Path) -> None:
    """Series that could not be used and slices of those that could; a retry tries again."""
    cache = built(tmp_path, ToySource(4, unusable=frozenset("2")))
    assert cache.quarantine.values.tolist() == [
        ["toy", "2", "", "undecodable", "by the test"],
        ["toy", "1", "1-x", "undecodable", "3 of 4 bytes"],
    ]
    assert "2" not in set(built(tmp_path, ToySource(4)).slices["job"])
    mended = build_cache(tmp_path, ToySource(4), SPEC, workers=1, retry=True)
    assert mended.slices["job"].drop_duplicates().tolist() == ["0", "1", "3", "2"]
    assert mended.quarantine["job"].tolist() == ["1"]


def test_a_cache_with_nothing_in_it_is_an_error_with_its_reasons(tmp_path: Path) -> None:
    """When no series can be used the build says so, and the quarantine can still be read."""
    with pytest.raises(TrainingError, match="is empty"):
        built(tmp_path, ToySource(2, unusable=frozenset("01")))
    assert open_quarantine(tmp_path)["reason"].tolist() == ["undecodable"] * 2
    with pytest.raises(TrainingError, match="no cache in"):
        open_cache(tmp_path / "elsewhere")


def test_a_damaged_cache_is_an_error(tmp_path: Path) -> None:
    """Lost pixels are noticed on opening and on building."""
    built(tmp_path, ToySource(2))
    os.truncate(tmp_path / "hu.bin", 100)
    with pytest.raises(TrainingError, match="pixels are missing"):
        open_cache(tmp_path)
    with pytest.raises(TrainingError, match="shorter than its index"):
        built(tmp_path, ToySource(3))
    (tmp_path / "cache.json").write_text("{")
    with pytest.raises(TrainingError, match=r"cache\.json is damaged"):
        open_cache(tmp_path)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """A second build of the same folder is refused while the first one holds it."""
    built(tmp_path, ToySource(1))
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="Another process"):
            built(tmp_path, ToySource(2))


def test_the_table_for_people_is_the_index(tmp_path: Path) -> None:
    """slices.parquet holds what the opened cache holds."""
    cache = built(tmp_path, ToySource(3))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "slices.parquet"), cache.slices)


def test_no_line_of_the_index_holds_a_nan(tmp_path: Path) -> None:
    """Unknown facts and labels are null, so that any program reads the file."""
    built(tmp_path, ToySource(2, unlabelled=frozenset("0")))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for line in (tmp_path / "index.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_neighbours_stay_in_their_series(tmp_path: Path) -> None:
    """At the ends of a series the slice stands in for its neighbour; never the next patient's."""
    slices = all_slices(built(tmp_path, ToySource(3)), 2)
    assert slices.around[5].tolist() == [3, 4, 5, 5, 5]
    assert slices.around[6].tolist() == [6, 6, 6, 7, 8]
    assert (slices.series[slices.around] == slices.series[:, None]).all()
    stacks = slices.stacks(np.array([6, 11]))
    assert stacks.shape == (2, 5, 32, 32)
    assert (stacks[0, 4].numpy() == slices.cache.hu[8]).all()


def test_planes_are_those_of_the_memory_map(tmp_path: Path) -> None:
    """Runs, repeats and jumps give what indexing gives; a file that shrank is noticed."""
    cache = built(tmp_path, ToySource(3))
    rows = np.array([[0, 1, 2], [5, 5, 5], [17, 3, 4], [9, 8, 8]])
    assert (cache.planes(rows) == cache.hu[rows]).all()
    assert cache.planes(np.empty((0, 3), np.int64)).shape == (0, 3, 32, 32)
    os.truncate(tmp_path / "hu.bin", 17 * 32 * 32 * 2)
    with pytest.raises(TrainingError, match="damaged or out of reach"):
        cache.planes(rows)


def test_what_is_not_known_is_nan(tmp_path: Path) -> None:
    """Missing labels are never 0; a series is negative only where all of it is known to be."""
    slices = all_slices(built(tmp_path, ToySource(4, unlabelled=frozenset("2"))), 0)
    of = {job: slices.where((slices.table["job"] == job).to_numpy()) for job in "0123"}
    assert np.isnan(of["2"].labels).all()
    assert np.isnan(of["2"].series_labels).all()
    assert (of["1"].series_labels == 0).all()
    assert of["0"].series_labels[0].tolist() == [1, 0, 1, 0, 0, 0]
    assert of["0"].labels[:, LABELS.index("intraparenchymal")].tolist() == [0, 0, 1, 0, 0, 0]


def test_voxel_truth_lies_where_it_is_known(tmp_path: Path) -> None:
    """A masked series shows its kinds, an unmasked one zeros, in whichever order they came."""
    slices = all_slices(built(tmp_path, ToySource(4, masked=frozenset("2"))), 0)
    kinds = slices.kinds(np.arange(len(slices)))
    assert sorted(set(slices.table["job"][slices.masked])) == ["2"]
    assert kinds[14].unique().tolist() == [0, 2]
    assert int((kinds > 0).sum()) == int((kinds[14] > 0).sum())
    blood = slices.stacks(np.array([14]))[0, 0][kinds[14] > 0].float()
    assert 60 < float(blood.mean()) < 75


def test_a_view_keeps_its_neighbours_reachable(tmp_path: Path) -> None:
    """A part of the slices still sees the slices around it that are not part of it."""
    whole = all_slices(built(tmp_path, ToySource(2)), 1)
    part = whole.where(whole.labels[:, 0] == 1)
    assert len(part) == 1
    assert (part.stacks(np.array([0]))[0].numpy() == whole.cache.hu[1:4]).all()
    assert set(whole.of_patients({"p1"}).table["patient"]) == {"p1"}
