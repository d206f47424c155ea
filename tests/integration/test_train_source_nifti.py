"""CT-ICH and BHSD as sources, on miniature sets of simulated heads; and NIfTI by itself."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec
from tests.miniatures import (
    SPACING_MM,
    Truth,
    cut_short,
    head,
    write_bhsd,
    write_ct_ich,
    write_nifti,
)
from train.data.cache import build_cache
from train.data.reading import pseudonym
from train.data.sources.bhsd import open_source as open_bhsd
from train.data.sources.ct_ich import open_source as open_ct_ich
from train.data.sources.nifti import read_nifti
from train.data.sources.rsna import patient_key
from train.errors import TrainingError, Unusable

KEY = b"key"
IPH, SDH = LABELS.index("intraparenchymal"), LABELS.index("subdural")


@pytest.fixture(scope="module")
def ct_ich(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Truth]]:
    folder = tmp_path_factory.mktemp("ct-ich")
    return folder, write_ct_ich(folder)


@pytest.fixture(scope="module")
def bhsd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Truth]]:
    folder = tmp_path_factory.mktemp("bhsd")
    return folder, write_bhsd(folder)


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return head(41).hu


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAS", "RPI", "LPI", "RAI"])
def test_any_direction_of_axes_reads_alike(tmp_path, volume, codes):
    """Front up, the patient's right on the left, feet first, however the file runs."""
    write_nifti(tmp_path / "a.nii.gz", volume, codes)
    read = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read.hu, volume)
    np.testing.assert_allclose(read.spacing_mm, SPACING_MM)
    np.testing.assert_allclose(read.positions_mm, SPACING_MM[0] * np.arange(len(volume)))
    last = len(volume) - 1
    assert read.file_slices.tolist()[:: 1 if codes[2] == "S" else -1] == list(range(last + 1))


def test_axes_that_are_swapped_are_put_back(tmp_path, volume):
    """A file whose first axis runs to the back reads alike."""
    affine = np.zeros((4, 4))
    affine[1, 0], affine[0, 1], affine[2, 2], affine[3, 3] = -3.75, -3.75, 12.0, 1.0
    nibabel.save(nibabel.Nifti1Image(volume.transpose(1, 2, 0), affine), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii").hu, volume)


def test_scaled_values_and_holes_are_hounsfield_units(tmp_path, volume):
    """Slope and intercept are applied, fractions rounded, what is no number is air."""
    scaled = volume.transpose(2, 1, 0).astype(np.float32) + 0.25
    scaled[0, 0, 0] = np.nan
    nibabel.save(
        nibabel.Nifti1Image(scaled, np.diag([-3.75, -3.75, 12.0, 1.0])), tmp_path / "a.nii"
    )
    read = read_nifti(tmp_path / "a.nii").hu
    assert read[0, 0, 0] == -1024
    np.testing.assert_array_equal(read[1:], volume[1:])


def test_a_tilted_scan_has_its_steps_along_the_normal(tmp_path, volume):
    """The gantry's tilt shears the stack; the distance of slices is across them."""
    affine = np.diag([-3.75, -3.75, 12.0, 1.0])
    affine[1, 2] = 4.0
    nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine), tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").spacing_mm[0] == pytest.approx(12.0)


def without_orientation(path: Path, volume: np.ndarray) -> None:
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), None)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nibabel.save(image, path)


def coronal(path: Path, volume: np.ndarray) -> None:
    affine = np.zeros((4, 4))
    affine[0, 0], affine[2, 1], affine[1, 2], affine[3, 3] = 1.0, 1.0, 1.0, 1.0
    nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 0, 1), affine), path)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (without_orientation, "no geometry"),
        (coronal, "not axial"),
        (lambda p, v: write_nifti(p, np.clip(v, 0, 80), "LPS"), "not hounsfield"),
        (lambda p, v: (write_nifti(p, v, "LPS"), cut_short(p, 1000)), "undecodable"),
        (lambda p, v: p.write_bytes(b"nothing"), "undecodable"),
        (lambda p, v: nibabel.save(nibabel.Nifti1Image(v[0], np.eye(4)), p), "no volume|not axial"),
    ],
)
def test_what_cannot_be_read_is_quarantined_with_a_reason(tmp_path, volume, write, reason):
    """Refused rather than guessed: no orientation, another plane, no Hounsfield units, damage."""
    write(tmp_path / "a.nii", volume)
    with pytest.raises(Unusable, match=reason):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("job", ["049", "050", "051"])
def test_slices_of_ct_ich_find_their_rows(ct_ich, job):
    """Rows in any order, counted from 1 along a file that may run downwards, find their slices."""
    folder, truths = ct_ich
    series = open_ct_ich(str(folder), None, KEY).read(job)
    np.testing.assert_array_equal(series.hu, truths[job].hu)
    np.testing.assert_array_equal(series.slice_labels, truths[job].labels.astype(np.float32))
    assert series.slice_keys == truths[job].keys


def test_a_mask_is_voxel_truth_where_the_kind_is_plain(ct_ich):
    """Of one kind of blood the mask says where; of none that there is none; of two, nothing."""
    folder, truths = ct_ich
    source = open_ct_ich(str(folder), None, KEY)
    kinds = source.read("049").kinds
    assert kinds is not None
    assert set(np.unique(kinds)) == {0, IPH}
    np.testing.assert_array_equal(kinds, truths["049"].mask)
    assert source.read("050").kinds is None
    clear = source.read("051").kinds
    assert clear is not None
    assert not clear.any()
    assert source.read("052").kinds is None


def test_a_mask_that_contradicts_the_rows_is_not_believed(tmp_path):
    """A mask that is blank where a row says blood is no voxel truth; the labels stay."""
    truths = write_ct_ich(tmp_path)
    write_nifti(tmp_path / "masks" / "049.nii", np.zeros(truths["049"].hu.shape), "LPS")
    series = open_ct_ich(str(tmp_path), None, KEY).read("049")
    assert series.kinds is None
    assert series.slice_labels[:, 0].sum() > 0


def test_a_row_of_ct_ich_that_contradicts_itself_costs_its_slice(ct_ich):
    """Subdural blood and "no haemorrhage" in one row: the slice is left out, and counted."""
    folder, truths = ct_ich
    series = open_ct_ich(str(folder), None, KEY).read("052")
    assert [(one.key, one.reason) for one in series.left_out] == [
        ("052-1", "labels contradict themselves")
    ]
    assert len(series.hu) == len(truths["052"].hu) - 1
    assert not (series.slice_labels[:, SDH] == 1).any()


def test_a_slice_without_a_row_is_not_known(tmp_path):
    """A row that is missing is NaN for its slice, and 0 for none."""
    write_ct_ich(tmp_path)
    path = tmp_path / "hemorrhage_diagnosis_raw_ct.csv"
    rows = list(csv.reader(path.open()))
    path.write_text("\n".join(",".join(row) for row in rows if row[:2] != ["51", "3"]))
    series = open_ct_ich(str(tmp_path), None, KEY).read("051")
    unknown = np.isnan(series.slice_labels).all(axis=1)
    assert [key for key, lost in zip(series.slice_keys, unknown, strict=True) if lost] == ["051-3"]


def test_people_of_ct_ich_have_age_and_sex_and_no_names(ct_ich):
    """The demographics, with their odd headers, are facts; patients are pseudonyms."""
    folder, _ = ct_ich
    source = open_ct_ich(str(folder), None, KEY)
    first, child = source.read("049"), source.read("050")
    assert (first.facts.age_years, first.facts.sex) == (62, "M")
    assert (child.facts.age_years, child.facts.sex) == (0.5, "F")
    assert np.isnan(source.read("051").facts.age_years)
    assert first.patient == pseudonym("ct-ich", "049", key=KEY)
    assert source.licence.non_commercial


def test_ct_ich_fits_into_a_cache(ct_ich, tmp_path):
    """Four scans go in, the one without a file into quarantine."""
    spec = PreprocessSpec(size_px=32, windows_hu=((0.0, 80.0),))
    source = open_ct_ich(str(ct_ich[0]), None, KEY)
    cache = build_cache(tmp_path / "cache", source, spec, workers=1)
    assert cache.slices["series"].nunique() == 4
    assert sorted(cache.quarantine["reason"]) == ["labels contradict themselves", "no file"]
    masked = cache.slices.groupby("series")["masked"].first()
    assert masked.to_dict() == {"049": True, "050": False, "051": True, "052": False}


def test_more_rows_than_slices_are_refused(tmp_path):
    """Rows beyond the last slice say that rows and file do not belong together."""
    write_ct_ich(tmp_path)
    with (tmp_path / "hemorrhage_diagnosis_raw_ct.csv").open("a") as file:
        file.write("51,13,0,0,0,0,0,1,0\n")
    with pytest.raises(Unusable, match="labels do not fit"):
        open_ct_ich(str(tmp_path), None, KEY).read("051")


def test_one_slice_with_two_rows_that_differ_is_refused(tmp_path):
    """The published file says of a slice one thing."""
    write_ct_ich(tmp_path)
    with (tmp_path / "hemorrhage_diagnosis_raw_ct.csv").open("a") as file:
        file.write("51,1,0,1,0,0,0,0,0\n")
    with pytest.raises(TrainingError, match="differently from an earlier line"):
        open_ct_ich(str(tmp_path), None, KEY)


def test_voxels_of_bhsd_become_our_kinds(bhsd):
    """Every voxel keeps its kind, and every slice is labelled by what its voxels show."""
    folder, truths = bhsd
    source = open_bhsd(str(folder), None, KEY)
    job = "ID_0a1b2c3d_ID_5e71e50000"
    series = source.read(job)
    np.testing.assert_array_equal(series.hu, truths[job].hu)
    np.testing.assert_array_equal(series.slice_labels, truths[job].labels.astype(np.float32))
    assert series.slice_keys == truths[job].keys
    np.testing.assert_array_equal(series.kinds, truths[job].mask)
    assert set(np.unique(series.kinds)) == {0, LABELS.index("subarachnoid"), SDH}


def test_patients_of_bhsd_are_those_of_rsna(bhsd):
    """A patient in both sets has one pseudonym, so that a split by patients tears nobody apart."""
    source = open_bhsd(str(bhsd[0]), None, KEY)
    series = source.read("ID_ffee0011_ID_5e71e50002")
    assert series.patient == patient_key("ID_ffee0011", KEY)
    assert series.series == "ID_5e71e50002"
    assert source.licence.non_commercial


@pytest.mark.parametrize("inside", ["", "label_192"])
def test_the_other_layout_of_bhsd_will_do(tmp_path, inside):
    """Another copy has images and ground truths, perhaps in a folder inside."""
    truths = write_bhsd(tmp_path / inside, trained="images", masks="ground truths")
    assert set(open_bhsd(str(tmp_path), None, KEY).jobs()) == set(truths)


def test_what_bhsd_lacks_is_quarantined(bhsd, tmp_path):
    """A scan without a mask, with another number of slices, or with a strange voxel."""
    with pytest.raises(Unusable, match="no mask"):
        open_bhsd(str(bhsd[0]), None, KEY).read("ID_0a1b2c3d_ID_5e71e50001")
    truths = write_bhsd(tmp_path)
    first, second, _ = truths
    mask = np.zeros(truths[first].hu.shape, np.int16)
    write_nifti(tmp_path / "labelsTr" / f"{first}.nii.gz", mask[:-1], "LAS")
    mask[0, 0, 0] = 7
    write_nifti(tmp_path / "labelsTr" / f"{second}.nii.gz", mask, "LAS")
    source = open_bhsd(str(tmp_path), None, KEY)
    with pytest.raises(Unusable, match="mask does not fit"):
        source.read(first)
    with pytest.raises(Unusable, match=r"unknown voxel label \(7\)"):
        source.read(second)


def test_a_changed_mask_is_noticed(tmp_path):
    """Masks are the labels; other ones have another digest."""
    truths = write_bhsd(tmp_path)
    before = open_bhsd(str(tmp_path), None, KEY).labels_digest
    (tmp_path / "labelsTr" / f"{next(iter(truths))}.nii.gz").unlink()
    assert open_bhsd(str(tmp_path), None, KEY).labels_digest != before


def test_folders_of_something_else_are_refused(tmp_path):
    """An empty folder is neither set, and the sentence says what is missing."""
    with pytest.raises(TrainingError, match="imagesTr and labelsTr"):
        open_bhsd(str(tmp_path), None, KEY)
    with pytest.raises(TrainingError, match="no ct_scans"):
        open_ct_ich(str(tmp_path), None, KEY)
