"""A plain folder of DICOM files as a source: labels of slices, series, studies and patients."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from ichnode.phantom import write_study
from ichnode.phantom.studies import DEMONSTRATION_SEEDS, StudyFiles
from tests.training_data import SPEC
from train.data.cache import build_cache
from train.data.folders import ought_to_be_dicom
from train.data.reading import pseudonym
from train.data.sources.dicom_folder import DicomFolder
from train.data.sources.known import open_known
from train.data.views import all_slices
from train.errors import TrainingError, Unusable

KEY = b"a key for the tests"
SEED = DEMONSTRATION_SEEDS.start + 300


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[StudyFiles]]:
    """Two simulated studies with what scanners send along, nested, among other files."""
    folder = tmp_path_factory.mktemp("scans")
    made = [
        write_study(
            folder / f"disc{number}" / "deep",
            SEED + number,
            bleeds=bleeds,
            size_px=128,
            extras=("localizer", "bone"),
        )
        for number, bleeds in enumerate((("subdural",), ()))
    ]
    (folder / "README.txt").write_text("not an image")
    (folder / "DICOMDIR").write_bytes(bytes(200))
    return folder, made


def opened(studies: tuple[Path, list[StudyFiles]], tmp_path: Path, text: str) -> DicomFolder:
    (tmp_path / "labels.csv").write_text(text)
    source = open_known("dicom-folder", str(studies[0]), tmp_path / "labels.csv", KEY)
    assert isinstance(source, DicomFolder)
    return source


def instance_uid(study: StudyFiles, number: int) -> str:
    return study.identity.instance_uid(2, number)


def test_a_label_of_a_study_is_that_of_its_best_series(studies, tmp_path: Path) -> None:
    """Localizer and bone series are passed over, as on the node; slices stay unlabelled."""
    positive, negative = studies[1]
    source = opened(
        studies,
        tmp_path,
        "study_uid,any,subdural,label_source\n"
        f"{positive.identity.study_uid},1,1,report\n{negative.identity.study_uid},0,,report\n",
    )
    assert source.jobs() == [positive.identity.study_uid, negative.identity.study_uid]
    series = [source.read(job) for job in source.jobs()]
    for one, study in zip(series, studies[1], strict=True):
        assert one.series == study.series_uid("head")
        assert one.hu.shape == study.head.hu.shape
        assert np.isnan(one.slice_labels).all()
        assert one.label_source == "report"
        assert one.facts.thickness_mm == pytest.approx(study.head.thickness_mm)
        assert one.facts.manufacturer == "ichnode phantom"
        assert one.slice_keys[0] == instance_uid(study, 1)
    assert series[0].series_labels[[0, 5]].tolist() == [1, 1]
    assert series[1].series_labels.tolist() == [0] * 6


def test_labels_of_slices_find_their_slices(studies, tmp_path: Path) -> None:
    """By UID, those that are not named stay unknown; the truth of the series follows."""
    study = studies[1][0]
    count = len(study.head.hu)
    rows = "".join(
        f"{instance_uid(study, n + 1)},{int(study.head.labels[n, 0])}\n"
        for n in range(count)
        if n != 3
    )
    source = opened(studies, tmp_path, f"sop_uid,any\n{rows}")
    assert source.jobs() == [study.series_uid("head")]
    series = source.read(source.jobs()[0])
    known = np.arange(count) != 3
    assert np.isnan(series.slice_labels[3]).all()
    assert (series.slice_labels[known, 0] == study.head.labels[known, 0]).all()
    cache = build_cache(tmp_path / "cache", source, SPEC, workers=1)
    slices = all_slices(cache, 0)
    assert (slices.series_labels[:, 0] == 1).all()
    assert set(slices.table["dataset"]) == {"dicom-folder"}


def test_files_are_named_by_path_or_by_name(studies, tmp_path: Path) -> None:
    """A path from the folder always does; a bare name does where there is one such file."""
    source = opened(studies, tmp_path, "file,any\ndisc0/deep/head/0002.dcm,1\n")
    series = source.read(source.jobs()[0])
    assert series.slice_labels[1, 0] == 1
    assert np.isnan(series.slice_labels[0, 0])
    with pytest.raises(TrainingError, match=r"Line 2 .* in the folder more than once"):
        opened(studies, tmp_path, "file,any\n0002.dcm,1\n")


def test_labels_of_series_and_of_accession_numbers(studies, tmp_path: Path) -> None:
    """A series is read as it is named; an accession number is that of a study."""
    study = studies[1][0]
    source = opened(studies, tmp_path, f"series_uid,any\n{study.series_uid('bone')},1\n")
    series = source.read(source.jobs()[0])
    assert series.series == study.series_uid("bone")
    assert series.series_labels[0] == 1
    assert np.isnan(series.series_labels[1])
    source = opened(studies, tmp_path, f"accession_number,any\n{study.identity.accession},1\n")
    assert source.read(source.jobs()[0]).series == study.series_uid("head")


def test_no_identity_leaves_the_source(studies, tmp_path: Path) -> None:
    """Jobs and keys are pseudonyms under the key; the same patient is the same one at any level."""
    study = studies[1][0]
    patients = set()
    for level, identifier in (
        ("patient_id", study.identity.patient_id),
        ("accession_number", study.identity.accession),
        ("series_uid", study.series_uid("head")),
        ("sop_uid", instance_uid(study, 1)),
    ):
        source = opened(studies, tmp_path, f"{level},any\n{identifier},1\n")
        series = source.read(source.jobs()[0])
        said = " ".join([*source.jobs(), series.patient, series.study, *series.slice_keys])
        for personal in (study.identity.patient_id, study.identity.accession, "SIMULATED"):
            assert personal not in said
        patients.add(series.patient)
    assert patients == {pseudonym("", study.identity.patient_id, key=KEY)}


def test_a_patient_with_two_studies_cannot_be_labelled_as_such(studies, tmp_path: Path) -> None:
    """It is quarantined: the label does not say which of the studies it is of."""
    identity = studies[1][0].identity
    again = dataclasses.replace(identity, study_uid=identity.study_uid + "9")
    folder = tmp_path / "scans"
    shutil.copytree(studies[0] / "disc0" / "deep" / "head", folder / "first")
    write_study(folder / "second", SEED + 7, identity=again, extras=(), slices=8, size_px=64)
    (tmp_path / "labels.csv").write_text(f"patient_id,any\n{identity.patient_id},1\n")
    source = open_known("dicom-folder", str(folder), tmp_path / "labels.csv", KEY)
    with pytest.raises(Unusable, match="several studies"):
        source.read(source.jobs()[0])


def test_one_number_of_two_patients_is_the_label_of_neither(studies, tmp_path: Path) -> None:
    """An accession number that was used again does not say whose scan is meant."""
    identity = studies[1][0].identity
    other = dataclasses.replace(studies[1][1].identity, accession=identity.accession)
    folder = tmp_path / "scans"
    shutil.copytree(studies[0] / "disc0" / "deep" / "head", folder / "first")
    write_study(folder / "second", SEED + 7, identity=other, extras=(), slices=8, size_px=64)
    (tmp_path / "labels.csv").write_text(f"accession_number,any\n{identity.accession},1\n")
    source = open_known("dicom-folder", str(folder), tmp_path / "labels.csv", KEY)
    with pytest.raises(Unusable, match="several patients"):
        source.read(source.jobs()[0])


def test_a_study_without_a_suitable_series_says_why(studies, tmp_path: Path) -> None:
    """The reasons are the node's, and counted."""
    folder = tmp_path / "scans"
    for part in ("localizer", "bone"):
        shutil.copytree(studies[0] / "disc0" / "deep" / part, folder / part)
    (tmp_path / "labels.csv").write_text(f"study_uid,any\n{studies[1][0].identity.study_uid},1\n")
    source = open_known("dicom-folder", str(folder), tmp_path / "labels.csv", KEY)
    with pytest.raises(Unusable, match=r"no suitable series \(1 localizer, 1 sharp kernel\)"):
        source.read(source.jobs()[0])


def test_damaged_files_are_quarantined(studies, tmp_path: Path) -> None:
    """A file that ought to be an image and is none is listed; text beside the scans is not."""
    folder = tmp_path / "scans"
    shutil.copytree(studies[0] / "disc0", folder)
    (folder / "broken.dcm").write_bytes(b"no image at all")
    (folder / "notes.txt").write_text("nothing")
    (tmp_path / "labels.csv").write_text(f"series_uid,any\n{studies[1][0].series_uid('head')},1\n")
    source = open_known("dicom-folder", str(folder), tmp_path / "labels.csv", KEY)
    cache = build_cache(tmp_path / "cache", source, SPEC, workers=1)
    assert cache.quarantine[["slice", "reason", "detail"]].values.tolist() == [
        ["", "undecodable", "broken.dcm"]
    ]


@pytest.mark.parametrize(
    ("name", "missed"),
    [
        ("a.dcm", True),
        ("A.IMA", True),
        ("IM000012", True),
        ("1.2.840.10008.5", True),
        ("LICENSE", False),
        ("DICOMDIR", False),
        ("notes.txt", False),
        ("scan2.pdf", False),
    ],
)
def test_files_that_ought_to_be_images_are_missed(name: str, missed: bool) -> None:
    """By ending, by number, by UID; what else lies beside scans is passed over."""
    assert ought_to_be_dicom(Path("folder") / name) is missed


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("series_uid,any\n1.2.3,1\n9.9,0\n", "2 of 2 rows .* name a series_uid .* line 2"),
        (
            "patient_id,any\nNOBODY,1\n",
            "1 of 1 rows .* name a patient_id that is not in the folder",
        ),
    ],
)
def test_labels_of_what_is_not_there_are_an_error(
    studies, tmp_path: Path, text: str, sentence: str
) -> None:
    """The message counts rows and names a line, and no identifier."""
    with pytest.raises(TrainingError, match=sentence) as error:
        opened(studies, tmp_path, text)
    assert "NOBODY" not in str(error.value)


def test_a_folder_needs_scans_and_labels(studies, tmp_path: Path) -> None:
    """No labels, no folder, no DICOM file in it: one sentence each."""
    with pytest.raises(TrainingError, match="needs --labels"):
        open_known("dicom-folder", str(studies[0]), None, KEY)
    (tmp_path / "labels.csv").write_text("study_uid,any\n1.2,1\n")
    (tmp_path / "empty").mkdir()
    for folder, sentence in (("none", "is no folder"), ("empty", "no DICOM file in")):
        with pytest.raises(TrainingError, match=sentence):
            open_known("dicom-folder", str(tmp_path / folder), tmp_path / "labels.csv", KEY)
    with pytest.raises(TrainingError, match="no source rsmna; known are"):
        open_known("rsmna", "x")


def test_the_source_travels_to_other_processes(studies, tmp_path: Path) -> None:
    """It can be pickled, and processes give what one process gives."""
    uids = [study.series_uid("head") for study in studies[1]]
    source = opened(studies, tmp_path, f"series_uid,any\n{uids[0]},1\n{uids[1]},0\n")
    assert pickle.loads(pickle.dumps(source)).jobs() == source.jobs()
    one = build_cache(tmp_path / "one", source, SPEC, workers=1)
    two = build_cache(tmp_path / "two", source, SPEC, workers=2)
    assert (one.hu == two.hu).all()
    assert one.slices.equals(two.slices)


def test_corrected_labels_need_another_cache(studies, tmp_path: Path) -> None:
    """The same folder with another CSV is refused; under another name it is another dataset."""
    uid = studies[1][0].series_uid("head")
    build_cache(
        tmp_path / "cache", opened(studies, tmp_path, f"series_uid,any\n{uid},1\n"), SPEC, workers=1
    )
    changed = opened(studies, tmp_path, f"series_uid,any\n{uid},0\n")
    with pytest.raises(
        TrainingError, match="labels of dicom-folder, or what simulates them, are others"
    ):
        build_cache(tmp_path / "cache", changed, SPEC, workers=1)
    renamed = dataclasses.replace(changed, name="second reading")
    cache = build_cache(tmp_path / "cache", renamed, SPEC, workers=1)
    assert sorted(set(cache.slices["dataset"])) == ["dicom-folder", "second reading"]
