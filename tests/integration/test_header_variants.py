"""The same images twice, from the scanner and through an archive: one report, on both engines."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.lifecycle import Analysis
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Arrival
from ichnode.imaging.header import read_header
from ichnode.imaging.volume import check_variants
from ichnode.infer.stage import InferStage
from ichnode.nets.registry import Registry
from ichnode.phantom.studies import write_study
from ichnode.worklist.rows import SeriesRow
from ichnode.worklist.worklist import Worklist
from tests.models import write_model
from tests.worklist_kit import HandClock, arrival, build, send, sent_kinds


def arrivals(spool: Path, files: Sequence[Path], association: str) -> list[Arrival]:
    """What the receiver would hand over of these files."""
    made = []
    for path in files:
        one = arrival(read_header(path), association=association)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        made.append(
            Arrival(
                one.header,
                one.transfer_syntax_uid,
                sha256,
                path.relative_to(spool).as_posix(),
                path.stat().st_size,
                one.received_at,
                association,
                one.calling_ae,
                one.called_ae,
                one.peer_address,
            )
        )
    return made


def forwarded(files: Sequence[Path], folder: Path, *, intercept: str = "") -> list[Path]:
    """Headers coerced and pixels recompressed, as an archive forwards; or another picture."""
    folder.mkdir(parents=True)
    made = []
    for path in files:
        dataset = dcmread(path)
        dataset.IssuerOfPatientID, dataset.AccessionNumber = "ARCHIVE", "A-42"
        if intercept:
            dataset.RescaleIntercept = intercept
        dataset.compress(RLELossless, generate_instance_uid=False)
        made.append(folder / path.name)
        dataset.save_as(made[-1])
    return made


def looked_at(worklist: Worklist, stage: InferStage) -> SeriesRow:
    """Look at the series that is due, and return what became of it."""
    work = worklist.analyses.claim("infer")
    assert work is not None
    assert worklist.analyses.settle(work, stage.handle(work))
    (row,) = worklist.views.reading_list()
    return row.series[0]


def test_a_forward_of_the_same_images_makes_no_second_report(
    worklist: Worklist, hand_clock: HandClock, tmp_path: Path
) -> None:
    """Same UIDs, other bytes, same pixels: the statement stands; other pixels need a person."""
    write_model(tmp_path / "model", logit=4.0)
    registry = Registry(tmp_path / "models")
    registry.promote(registry.install(tmp_path / "model"))
    stage = InferStage(tmp_path / "models", tmp_path, device="cpu")
    files = write_study(tmp_path / "scanner", 900_002, slices=24, size_px=128).series["head"]
    worklist.record(arrivals(tmp_path, files, "scanner"))
    hand_clock.forward(20)
    assert looked_at(worklist, stage).analysis is Analysis.POSITIVE
    build(worklist)
    assert sent_kinds(send(worklist)) == ["sc", "sr", "ups"]

    again = forwarded(files, tmp_path / "archive")
    worklist.record(arrivals(tmp_path, again, "archive"))
    worklist.association_released("archive")
    hand_clock.forward(20)
    series = looked_at(worklist, stage)
    assert (series.analysis, series.final, series.instances) == (Analysis.POSITIVE, True, 48)
    assert build(worklist) == []
    assert send(worklist) == []

    other = forwarded(files[:1], tmp_path / "other", intercept="-900")
    worklist.record(arrivals(tmp_path, other, "other"))
    hand_clock.forward(20)
    assert looked_at(worklist, stage).reason is Reason.CONFLICTING_PIXELS
    (row,) = worklist.views.reading_list()
    assert row.band.value == "urgent"
    assert build(worklist) == []


def test_both_at_once_are_read_as_one_series(
    worklist: Worklist, hand_clock: HandClock, tmp_path: Path
) -> None:
    """Where the forward overtakes the first look there is one slice per UID and one result."""
    write_model(tmp_path / "model", logit=-3.0)
    registry = Registry(tmp_path / "models")
    registry.promote(registry.install(tmp_path / "model"))
    stage = InferStage(tmp_path / "models", tmp_path, device="cpu")
    files = write_study(tmp_path / "scanner", 900_003, slices=24, size_px=128).series["head"]
    again = forwarded(files, tmp_path / "archive")
    for one, other in zip(
        arrivals(tmp_path, files, "scanner"), arrivals(tmp_path, again, "archive"), strict=True
    ):
        worklist.record([one, other])
    hand_clock.forward(20)
    series = looked_at(worklist, stage)
    assert (series.analysis, series.final) == (Analysis.NEGATIVE, True)


@pytest.mark.real
def test_real_slices_are_recognised_after_recompression(real_data: Path, tmp_path: Path) -> None:
    """A real scan with coerced headers is a variant; one with another intercept is not."""
    files = sorted((real_data / "head_ct_ge").glob("*.dcm"))[10:14]
    known = [(read_header(path), path) for path in files]
    same = [(read_header(path), path) for path in forwarded(files, tmp_path / "same")]
    moved = forwarded(files, tmp_path / "moved", intercept="-900")
    assert check_variants(known, same) is None
    with pytest.raises(NotAnalysable) as caught:
        check_variants(known, [(read_header(path), path) for path in moved])
    assert caught.value.reason is Reason.CONFLICTING_PIXELS
