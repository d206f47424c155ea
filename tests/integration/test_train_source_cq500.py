"""CQ500 as a source, on a miniature set of simulated heads in its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ichnode.domain.findings import LABELS
from tests.miniatures import FINDINGS, Truth, write_cq500, write_reads
from train.data.reading import pseudonym
from train.data.sources.cq500 import Cq500, has_contrast, majority, open_source
from train.data.sources.labels_csv import read_rows
from train.errors import TrainingError, Unusable

KEY = b"key"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Truth]]]:
    folder = tmp_path_factory.mktemp("cq500")
    return folder, write_cq500(folder)


@pytest.fixture(scope="module")
def source(written) -> Cq500:
    return open_source(str(written[0]), None, KEY)


def labels_of(tmp_path: Path, *readings: set[str]) -> dict[str, float]:
    """What becomes of one study that three readers read so."""
    write_reads(tmp_path / "reads.csv", {"CQ500-CT-1": readings})
    (tmp_path / "CQ500CT1 CQ500CT1").mkdir(exist_ok=True)
    stated = open_source(str(tmp_path), None, KEY).labels["CQ500-CT-1"]
    return dict(zip(LABELS, stated.tolist(), strict=True))


def test_the_miniature_has_the_published_header(written):
    """The columns are those of the published reads.csv, in their order."""
    row = read_rows(written[0] / "reads.csv", ())[0]
    columns = [f"R{reader}:{finding}" for reader in (1, 2, 3) for finding in FINDINGS]
    assert list(row.cells) == ["name", "Category", *columns]


def test_of_the_plain_series_the_most_suitable_is_read(written, source):
    """Thick slices win over thin ones, and neither contrast nor another series is counted twice."""
    series = source.read("CQ500-CT-0")
    thick = written[1]["CQ500-CT-0"]["CT Plain"]
    np.testing.assert_array_equal(series.hu, thick.hu)
    np.testing.assert_allclose(series.spacing_mm, (6.0, 3.75, 3.75), atol=1e-3)
    assert series.facts.kernel == "STANDARD"


def test_readers_are_outvoted_label_by_label(source):
    """Two of three decide, of the study; what one alone saw is absent."""
    series = source.read("CQ500-CT-0")
    there = [label for label, v in zip(LABELS, series.series_labels, strict=True) if v == 1]
    assert there == ["any", "subdural"]
    assert series.series_labels[LABELS.index("subarachnoid")] == 0


def test_nothing_is_said_of_slices(source):
    """No slice has a label, of a clear study neither."""
    for job in ("CQ500-CT-0", "CQ500-CT-3"):
        assert np.isnan(source.read(job).slice_labels).all()


def test_a_chronic_bleed_counts_and_is_marked(source):
    """CQ500's ICH has chronic blood in it; the label source says where most readers saw that."""
    series = source.read("CQ500-CT-3")
    assert series.series_labels[0] == 1
    assert series.label_source == "readers (chronic)"
    assert source.read("CQ500-CT-0").label_source == "readers"


def test_kinds_on_which_readers_differ_are_not_known(source):
    """Two see blood, each another kind: both kinds are open, the others absent."""
    stated = dict(zip(LABELS, source.read("CQ500-CT-3").series_labels, strict=True))
    assert np.isnan(stated["intraparenchymal"])
    assert np.isnan(stated["subdural"])
    assert stated["epidural"] == stated["subarachnoid"] == stated["intraventricular"] == 0


def test_a_study_with_contrast_alone_is_quarantined(source):
    """Where every series tells of contrast medium there is nothing to read."""
    with pytest.raises(Unusable, match=r"no plain series \(1 with contrast medium\)"):
        source.read("CQ500-CT-7")


def test_studies_that_are_not_unpacked_are_counted(source):
    """What lies packed is no failure: it is said, and the rest goes on."""
    assert list(source.jobs()) == ["CQ500-CT-0", "CQ500-CT-3", "CQ500-CT-7"]
    assert source.remarks == ("1 studies of reads.csv are not unpacked there.",)


def test_patients_are_pseudonyms(source):
    """Each study is of another patient, under a keyed name."""
    assert source.read("CQ500-CT-0").patient == pseudonym("cq500", "CQ500-CT-0", key=KEY)
    assert source.licence.non_commercial


def test_majority_needs_two():
    """Two that agree decide; where a reader is missing and two differ, nobody does."""
    assert majority([True, True, False]) == 1
    assert majority([False, None, False]) == 0
    assert np.isnan(majority([True, None, False]))
    assert np.isnan(majority([None, None, True]))


def test_a_clear_study_is_known_to_be_clear(tmp_path):
    """One reader alone makes nothing positive: all six labels are 0."""
    assert set(labels_of(tmp_path, set(), {"ICH", "IPH"}, {"Fracture"}).values()) == {0.0}


def test_a_majority_that_contradicts_itself_is_quarantined(tmp_path):
    """A kind by majority without ICH by majority cannot be true."""
    assert labels_of(tmp_path, {"IPH"}, {"IPH"}, set())["any"] == 0
    with pytest.raises(Unusable, match="labels contradict themselves"):
        open_source(str(tmp_path), None, KEY).read("CQ500-CT-1")


@pytest.mark.parametrize(
    "name",
    ["CT 4cc sec 150cc D3D on", "CT 4cc sec 150cc D3D on-2", "CT POST CONTRAST-3", "CT CONTRAST",
     "CT 5mm POST CONTRAST", "CT Thin Contrast", "CT C", "CT C THIN-2", "CT ORAL IV",
     "CT CECT THIN", "CT PERFUSION"],
)  # fmt: skip
def test_contrast_is_told_by_the_name_of_the_folder(name):
    """The names that series with contrast medium have in CQ500."""
    assert has_contrast(name)


@pytest.mark.parametrize(
    "name",
    ["CT Plain", "CT PLAIN THIN-2", "CT PRE CONTRAST 5MM STD", "CT 5 MM PRE CONTRAST-2",
     "CT 0.625mm", "CT 2.55mm", "CT Thin Details", "CT HELICAL", "CT 1.25MM", "CT I To S",
     "CT 55mm Plain"],
)  # fmt: skip
def test_plain_series_are_not_taken_for_contrast(name):
    """The names that plain series have in CQ500."""
    assert not has_contrast(name)


def test_wrong_reads_are_refused(tmp_path):
    """A study twice, a missing column and a folder without studies stop it in one sentence."""
    (tmp_path / "reads.csv").write_text("name,Category,R1:ICH\n")
    with pytest.raises(TrainingError, match="no column"):
        open_source(str(tmp_path), None, KEY)
    write_reads(tmp_path / "reads.csv", {"CQ500-CT-1": (set(), set(), set())})
    with pytest.raises(TrainingError, match="unpack the archives"):
        open_source(str(tmp_path), None, KEY)
    lines = (tmp_path / "reads.csv").read_text().splitlines()
    (tmp_path / "reads.csv").write_text("\n".join([*lines, lines[-1]]))
    with pytest.raises(TrainingError, match="Line 3 of reads"):
        open_source(str(tmp_path), None, KEY)
