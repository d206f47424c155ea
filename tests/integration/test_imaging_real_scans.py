"""Real scans: a tilted, unevenly spaced head, twelve transfer syntaxes, and what is no head."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.imaging.decoding import decode, read_picture
from ichnode.imaging.header import read_header
from ichnode.imaging.hounsfield import to_hounsfield
from ichnode.imaging.selection import judge_headers, suitability
from ichnode.imaging.volume import read_series, same_picture

pytestmark = pytest.mark.real

LOSSY_HU = {"jpegls_near": 2, "j2k_lossy": 29}


@pytest.fixture(scope="module")
def head(real_data):
    """The 28 slices of the real head, shuffled."""
    paths = sorted((real_data / "head_ct_ge").glob("*.dcm"))
    assert len(paths) == 28
    random.Random(0).shuffle(paths)
    return [(read_header(path), path) for path in paths]


def hounsfield(path: Path) -> np.ndarray:
    picture = read_picture(path)
    return to_hounsfield(picture.dataset, decode(picture)[0])


@pytest.mark.parametrize("complete", [False, True])
def test_the_real_head_is_read_in_anatomical_order(head, complete):
    """Tilt, shear and the change from 4 to 7 mm slices are no obstacle, early or late."""
    volume = read_series(head, complete=complete)
    assert volume.hu.shape == (28, 512, 512)
    by_number = [h.sop_uid for h, _ in sorted(head, key=lambda pair: pair[0].instance_number)]
    assert list(volume.slice_uids) == by_number
    assert volume.tilt_deg == pytest.approx(18.5, abs=0.05)
    steps = np.diff(volume.positions_mm)
    assert steps[:13] == pytest.approx(np.full(13, 4.0), abs=0.01)
    assert steps[14:] == pytest.approx(np.full(13, 7.0), abs=0.01)
    assert volume.gaps == 0
    assert volume.warnings == ()
    assert volume.brain_mm > 90


def test_the_real_padding_is_air(head):
    """-1500 outside the circle becomes air, and nothing else is touched."""
    volume = read_series(head, complete=True)
    assert volume.hu.min() == -1024
    assert (volume.hu[:, 0, 0] == -1024).all()
    assert -1010 < np.median(volume.hu[14, 20:40, 240:270]) < -980  # air above the forehead


def test_the_real_head_scores_as_an_original_axial_one(head):
    """Its kernel is unknown to the tables, and its noise passes."""
    volume = read_series(head, complete=True)
    score, said = suitability([header for header, _ in head], volume)
    assert score > 60
    assert "+40 original axial" in said
    assert volume.noise_hu < 6


def test_without_a_slice_the_real_head_waits(head):
    """A slice missing from the middle holds back the early look, not the final one."""
    ordered = sorted(head, key=lambda pair: pair[0].instance_number)
    del ordered[7]
    with pytest.raises(NotAnalysable) as caught:
        read_series(ordered, complete=False)
    assert caught.value.may_change
    assert read_series(ordered, complete=True).gaps == 1


@pytest.mark.parametrize(
    "name",
    [
        "deflated_explicit_le",
        "explicit_be",
        "htj2k_lossless",
        "implicit_le",
        "j2k_lossless",
        "j2k_lossy",
        "jpeg_lossless_p14",
        "jpeg_lossless_sv1",
        "jpegls_lossless",
        "jpegls_near",
        "rle",
    ],
)
def test_every_transfer_syntax_gives_the_same_hounsfield_units(real_data, name):
    """Lossless syntaxes agree exactly, lossy ones within their stated difference."""
    folder = real_data / "head_ct_syntaxes"
    reference = hounsfield(folder / "explicit_le.dcm").astype(int)
    found = hounsfield(folder / f"{name}.dcm").astype(int)
    assert np.abs(found - reference).max() <= LOSSY_HU.get(name, 0)
    lossless = name not in LOSSY_HU
    assert same_picture(folder / "explicit_le.dcm", folder / f"{name}.dcm") is lossless


def test_every_transfer_syntax_gives_the_same_header(real_data):
    """The facts of the header do not depend on how the pixels are stored."""
    headers = [read_header(path) for path in (real_data / "head_ct_syntaxes").glob("*.dcm")]
    assert len(headers) == 12
    assert (
        len({(h.position_mm, h.orientation, h.rows, h.kernel, h.series_uid) for h in headers}) == 1
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("localizer.dcm", Reason.LOCALIZER),
        ("exam_summary_secondary_capture.dcm", Reason.DOSE_REPORT),
    ],
)
def test_what_is_not_for_analysis_is_declined_for_what_it_is(real_data, name, reason):
    """The localizer and the exam summary of a real CT session are refused for good."""
    path = real_data / "not_for_analysis" / name
    header = read_header(path)
    for judge in (
        lambda: judge_headers([header]),
        lambda: read_series([(header, path)], complete=True),
    ):
        with pytest.raises(NotAnalysable) as caught:
            judge()
        assert caught.value.reason is reason
        assert not caught.value.may_change


def test_a_slice_that_was_archived_in_between_is_no_conflict(head, real_data):
    """A losslessly recompressed copy under the same UID is a header variant of its slice."""
    original = next(pair for pair in head if pair[0].instance_number == 17)
    assert same_picture(original[1], real_data / "head_ct_syntaxes" / "jpegls_lossless.dcm")
