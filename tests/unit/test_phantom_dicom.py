"""Simulated series as DICOM: valid, readable, deterministic and plainly simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
)

from ichnode.domain.ids import is_strict_uid
from ichnode.phantom.dicom import (
    Identity,
    PixelStyle,
    write_dose_report,
    write_localizer,
    write_non_head,
    write_series,
)
from ichnode.phantom.head import SimulatedHead, simulate_head

SEED = 900_401
NAMELESS = Identity.simulated(SEED)


@pytest.fixture(scope="module")
def head() -> SimulatedHead:
    return simulate_head(SEED, bleeds=("subdural",), slices=6, size_px=96)


@pytest.fixture(scope="module")
def tilted() -> SimulatedHead:
    heads = (
        simulate_head(seed, bleeds=(), slices=4, size_px=48) for seed in range(SEED, SEED + 40)
    )
    return next(head for head in heads if head.tilt_deg > 8)


def hounsfield(ds: pydicom.Dataset) -> np.ndarray:
    return ds.pixel_array.astype(int) * int(ds.RescaleSlope) + int(ds.RescaleIntercept)


def test_pixels_come_back_as_hounsfield_units(head: SimulatedHead, tmp_path: Path) -> None:
    """Without padding, stored values and rescale give the simulated HU exactly."""
    paths = write_series(head, tmp_path, identity=NAMELESS, padding=None)
    for k, path in enumerate(paths):
        assert np.array_equal(hounsfield(pydicom.dcmread(path)), head.hu[k])


def test_padding_lies_outside_the_circle(head: SimulatedHead, tmp_path: Path) -> None:
    """The padding value is declared and stands in the corners alone."""
    path = write_series(head, tmp_path, identity=NAMELESS, padding=-2000)[3]
    ds = pydicom.dcmread(path)
    assert ds.PixelPaddingValue == -2000
    assert ds[0x00280120].VR == "SS"
    stored = ds.pixel_array
    assert stored[0, 0] == stored[-1, -1] == -2000
    assert np.array_equal(hounsfield(ds)[20:-20, 20:-20], head.hu[3, 20:-20, 20:-20])


def test_unsigned_twelve_bits(head: SimulatedHead, tmp_path: Path) -> None:
    """The older convention holds the same densities from -1024 to 3071 HU."""
    style = PixelStyle(signed=False, intercept_hu=-1024, padding=None)
    ds = pydicom.dcmread(write_series(head, tmp_path, identity=NAMELESS, style=style)[2])
    assert (ds.PixelRepresentation, ds.BitsStored) == (0, 12)
    assert np.array_equal(hounsfield(ds), head.hu[2])


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
    ],
)
def test_every_transfer_syntax_keeps_the_pixels(
    head: SimulatedHead, tmp_path: Path, syntax: str
) -> None:
    """Whatever the syntax, the same HU come back."""
    path = write_series(head, tmp_path, identity=NAMELESS, padding=None, transfer_syntax=syntax)[1]
    ds = pydicom.dcmread(path)
    assert ds.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(hounsfield(ds), head.hu[1])


def test_uids_follow_from_study_series_and_number(head: SimulatedHead, tmp_path: Path) -> None:
    """The same series written twice is byte for byte the same; another number is another series."""
    once = write_series(head, tmp_path / "a", identity=NAMELESS)
    again = write_series(head, tmp_path / "b", identity=NAMELESS)
    other = write_series(head, tmp_path / "c", identity=NAMELESS, series_number=9)
    assert [p.read_bytes() for p in once] == [p.read_bytes() for p in again]
    uids = [pydicom.dcmread(p).SOPInstanceUID for p in (*once, *other)]
    assert len(set(uids)) == len(uids)
    assert all(is_strict_uid(uid) for uid in uids)


def test_a_simulated_patient_is_plainly_simulated(head: SimulatedHead, tmp_path: Path) -> None:
    """Name, manufacturer and model say what it is, and not that the node made a result."""
    ds = pydicom.dcmread(write_series(head, tmp_path, identity=NAMELESS)[0])
    assert str(ds.PatientName).startswith("SIMULATED^PHANTOM")
    assert ds.Manufacturer == "ichnode phantom"
    assert ds.ManufacturerModelName == "simulated CT"
    assert ds.SOPClassUID == CTImageStorage
    assert list(ds.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]


def test_a_tilted_series_is_sheared_along_the_table(tilted: SimulatedHead, tmp_path: Path) -> None:
    """Positions step along the table; along the normal they step by the stated spacing."""
    sets = [pydicom.dcmread(p) for p in write_series(tilted, tmp_path, identity=NAMELESS)]
    row, column = np.reshape(np.array(sets[0].ImageOrientationPatient, float), (2, 3))
    normal = np.cross(row, column)
    steps = np.diff([np.array(ds.ImagePositionPatient, float) for ds in sets], axis=0)
    assert np.allclose(steps[:, :2], 0, atol=1e-4)
    assert np.allclose(steps @ normal, tilted.spacing_mm[0], atol=1e-3)
    angle = np.degrees(np.arccos(normal[2]))
    assert angle == pytest.approx(tilted.tilt_deg, abs=1e-3)


def test_an_enhanced_object_holds_all_slices(head: SimulatedHead, tmp_path: Path) -> None:
    """One file, a frame per slice, each with its position, the rescale in a functional group."""
    paths = write_series(head, tmp_path, identity=NAMELESS, sop_class="enhanced", padding=None)
    (path,) = paths
    ds = pydicom.dcmread(path)
    assert ds.SOPClassUID == EnhancedCTImageStorage
    assert ds.NumberOfFrames == len(ds.PerFrameFunctionalGroupsSequence) == 6
    shared = ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    assert np.array_equal(ds.pixel_array + int(shared.RescaleIntercept), head.hu)


def test_companions_are_what_scanners_send(tmp_path: Path) -> None:
    """A localizer, both forms of dose report and a trunk, each of the right class and type."""
    (scout,) = write_localizer(tmp_path / "scout", identity=NAMELESS, seed=SEED)
    (page,) = write_dose_report(tmp_path / "page", identity=NAMELESS)
    (report,) = write_dose_report(tmp_path / "sr", identity=NAMELESS, form="sr", series_number=998)
    trunk = write_non_head(tmp_path / "trunk", identity=NAMELESS, slices=2, size_px=64)
    assert pydicom.dcmread(scout).ImageType[2] == "LOCALIZER"
    assert pydicom.dcmread(page).SOPClassUID == SecondaryCaptureImageStorage
    dose = pydicom.dcmread(report)
    assert (dose.SOPClassUID, dose.Modality) == (XRayRadiationDoseSRStorage, "SR")
    assert pydicom.dcmread(trunk[0]).BodyPartExamined == "ABDOMEN"
    assert len(trunk) == 2


def test_the_localizer_shows_a_head_from_the_side(tmp_path: Path) -> None:
    """A sagittal picture: bone and air in it, rows running down the body."""
    (scout,) = write_localizer(tmp_path, identity=NAMELESS, seed=SEED)
    ds = pydicom.dcmread(scout)
    assert [float(v) for v in ds.ImageOrientationPatient] == [0, 1, 0, 0, 0, -1]
    values = hounsfield(ds)
    assert values.min() < -600 < -300 < values.max()
