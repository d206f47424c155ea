"""The site's export: consecutive studies, pixels of the labelled ones, and nobody's name."""

from __future__ import annotations

import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ichnode.domain.errors import ConfigurationError
from ichnode.domain.findings import Finding
from ichnode.domain.reasons import Reason
from ichnode.domain.work import Declined
from ichnode.phantom.identity import MANUFACTURER, MODEL_NAME
from ichnode.service.exporting import Exported, Exporter, Window
from ichnode.service.pseudonyms import Pseudonyms, site_salt
from ichnode.service.scanner_facts import SIMULATED, facts_of, innocent
from ichnode.worklist.worklist import Worklist
from tests.site_kit import SLICES, SimulatedSite
from tests.worklist_kit import HandClock, analysed, build, send

SALT = bytes(32)


@pytest.fixture
def site(worklist: Worklist, hand_clock: HandClock, tmp_path: Path) -> SimulatedSite:
    return SimulatedSite(worklist, hand_clock, tmp_path / "spool")


def export(site: SimulatedSite, folder: Path, days: float = 365.0) -> Exported:
    now = site.clock.now() + timedelta(seconds=1)
    window = Window(now - timedelta(days=days), now, now - timedelta(days=365))
    exporter = Exporter(site.worklist, site.spool, folder, Pseudonyms(SALT))
    return exporter.export(window, "2.25.1", lambda _done, _of: None)


def listed(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "studies.jsonl").read_text().splitlines()]


def three_studies(site: SimulatedSite) -> None:
    """One labelled and flagged, one labelled and missed, one not analysed; one unlabelled."""
    seen = site.scan(analysed(Finding.POSITIVE), bleeds=["subdural"])
    missed = site.scan(analysed(Finding.NEGATIVE), bleeds=["epidural"])
    site.scan(Declined(Reason.CONTRAST))
    site.scan(analysed(Finding.NEGATIVE))
    site.label(seen, subdural=True)
    site.label(missed, any=True, source="report")


def test_every_study_of_the_window_is_listed(site: SimulatedSite, tmp_path: Path) -> None:
    """Labelled or not, analysed or not, in order of arrival; what the model and people said."""
    three_studies(site)
    done = export(site, tmp_path / "export")
    seen, missed, declined, unlabelled = listed(tmp_path / "export")
    assert (done.studies, done.labelled, done.with_pixels, done.written) == (4, 2, 2, 2)
    assert seen["labels"] == {
        "any": 1,
        "epidural": None,
        "intraparenchymal": None,
        "intraventricular": None,
        "subarachnoid": None,
        "subdural": 1,
    }
    assert (seen["label_source"], seen["confirmed"], seen["flagged"]) == ("reader", True, True)
    assert (missed["label_source"], missed["flagged"], missed["band"]) == (
        "report",
        False,
        "routine",
    )
    assert declined["reason"] == "contrast"
    assert declined["series"] is declined["champion"] is None
    assert (unlabelled["confirmed"], unlabelled["series"], unlabelled["reason"]) == (
        False,
        None,
        "",
    )
    assert seen["champion"]["series_probabilities"] == [0.97] * 6
    assert re.fullmatch(r"2026-W\d\d", seen["arrived_week"])
    about = json.loads((tmp_path / "export" / "export.json").read_text())
    assert (about["format"], about["kind"]) == (1, "ichnode export")
    assert about["models"] == {"champion": "2.25.1"}


def test_pixels_are_those_of_the_series_in_hounsfield_units(
    site: SimulatedSite, tmp_path: Path
) -> None:
    """As the node itself reads them, with spacing, positions and what the scanner says."""
    three_studies(site)
    export(site, tmp_path / "export")
    series = listed(tmp_path / "export")[0]["series"]
    with np.load(tmp_path / "export" / series["file"]) as held:
        hu, spacing_mm, positions_mm = held["hu"], held["spacing_mm"], held["positions_mm"]
    head = site.studies[0].head
    assert hu.dtype == np.int16
    assert hu.shape == head.hu.shape
    assert series["slices"] == len(hu) == len(positions_mm)
    inside = head.hu > -500
    assert np.abs(hu.astype(float) - head.hu)[inside].max() <= 1
    assert spacing_mm == pytest.approx(head.spacing_mm, rel=1e-3)
    facts = series["facts"]
    assert facts["manufacturer"] == "ichnode phantom"
    assert facts["rows"] == facts["columns"] == 64
    assert facts["bits_stored"] in {12, 16}
    assert facts["age_years"] <= 90


def everything_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of an export, unpacked, with its name."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".npz":
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
                for name in archive.namelist():
                    yield f"{path.name}/{name}", archive.read(name)
        elif path.is_file():
            yield path.name, path.read_bytes()


def test_nobody_can_be_found_in_an_export(site: SimulatedSite, tmp_path: Path) -> None:
    """No name, number, date, UID or description of any study, in no file and no file's name."""
    three_studies(site)
    folder = tmp_path / "export"
    export(site, folder)
    secrets = set()
    for study in site.studies:
        who = study.identity
        secrets |= {who.patient_id, who.patient_name, *who.patient_name.split("^")}
        secrets |= {who.accession, who.study_uid, who.study_date, who.study_time, who.birth_date}
        secrets |= {who.study_description, who.institution, study.series_uid("head"), "SIMCT1"}
        secrets |= {path.stem for path in study.series["head"]}
    secrets |= {"Dr B", "CT1"}
    contents = list(everything_in(folder))
    assert len(contents) > 8
    for secret in secrets - {""}:
        for name, content in contents:
            assert secret.encode() not in content, f"{secret} in {name}"
            assert secret not in name
    assert folder.stat().st_mode & 0o077 == 0


def test_the_same_patient_has_the_same_name_and_studies_have_their_own(
    site: SimulatedSite, tmp_path: Path
) -> None:
    """Under one salt; under another everybody is somebody else."""
    names = Pseudonyms(SALT)
    assert names.patient("H", "1", "a") == names.patient("H", "1 ", "b")
    assert names.patient("H", "1", "a") != names.patient("J", "1", "a")
    assert names.patient("", "", "a") != names.patient("", "", "b")
    assert names.study("1.2") != names.series("1.2", "")
    assert names.study("1.2") != Pseudonyms(b"1" * 32).study("1.2")
    assert re.fullmatch("[0-9a-f]{16}", names.study("1.2"))


def test_a_second_export_writes_only_what_is_new(site: SimulatedSite, tmp_path: Path) -> None:
    """And lists the rest as before, with the labels of today."""
    three_studies(site)
    folder = tmp_path / "export"
    export(site, folder)
    before = {path: path.stat().st_mtime_ns for path in (folder / "series").iterdir()}
    lines = listed(folder)
    site.label(site.studies[3], any=False)
    done = export(site, folder)
    assert (done.written, done.with_pixels) == (1, 3)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert listed(folder)[:3] == lines[:3]


class Killed(BaseException):
    """What a test raises where a process would be killed."""


def test_an_export_that_was_cut_short_goes_on(site: SimulatedSite, tmp_path: Path) -> None:
    """Half an export says nowhere that it is one; pixels that are whole are not written again."""
    three_studies(site)
    folder = tmp_path / "export"

    def cut(done: int, _of: int) -> None:
        if done == 1:
            raise Killed

    now = site.clock.now() + timedelta(seconds=1)
    window = Window(now - timedelta(days=9), now, now - timedelta(days=9))
    with pytest.raises(Killed):
        Exporter(site.worklist, site.spool, folder, Pseudonyms(SALT)).export(window, "2.25.1", cut)
    assert not (folder / "export.json").exists()
    (half,) = (folder / "series").glob("*.npz")
    half.with_suffix(".json").unlink()  # as if killed between the two files
    done = export(site, folder)
    assert done.written == 2
    assert (folder / "export.json").exists()


def test_what_was_exported_stays_when_its_images_are_purged(
    site: SimulatedSite, tmp_path: Path
) -> None:
    """The export frees the images of labelled studies for purging, and outlives them."""
    three_studies(site)
    folder = tmp_path / "export"
    export(site, folder)
    build(site.worklist)
    send(site.worklist)
    site.clock.forward(15 * 86400)
    items = site.worklist.purgeable(timedelta(days=14), label_wait=timedelta(days=90))
    site.worklist.mark_purged([item.instance_id for item in items])
    for item in items:
        (site.spool / item.path).unlink()
    assert len(items) == 3 * SLICES  # the two labelled ones, and the one that was not analysed
    site.label(site.studies[2], any=False)
    done = export(site, folder)
    assert (done.with_pixels, done.written) == (2, 0)
    assert done.without == {"contrast": 1}


def test_a_labelled_study_that_was_purged_before_is_counted(
    site: SimulatedSite, tmp_path: Path
) -> None:
    """It is listed, without pixels, and the summary says why."""
    late = site.scan(analysed(Finding.NEGATIVE))
    items = site.worklist.purgeable(timedelta(0))
    site.worklist.mark_purged([item.instance_id for item in items])
    site.label(late, any=False)
    done = export(site, tmp_path / "export")
    assert (done.labelled, done.with_pixels, done.without) == (1, 0, {"purged": 1})
    assert listed(tmp_path / "export")[0]["series"] is None


def test_unreadable_images_are_left_out_and_counted(site: SimulatedSite, tmp_path: Path) -> None:
    """A file that was damaged since stops nothing."""
    study = site.scan(analysed(Finding.NEGATIVE))
    site.label(study, any=False)
    for path in study.series["head"]:
        path.write_bytes(b"no DICOM file")
    done = export(site, tmp_path / "export")
    assert done.without == {"unreadable": 1}


def test_the_pixels_of_whom_the_window_left_behind_are_deleted(
    site: SimulatedSite, tmp_path: Path
) -> None:
    """A narrower list alone deletes nothing; the passing of time does."""
    three_studies(site)
    folder = tmp_path / "export"
    export(site, folder)
    site.clock.forward(100 * 86400)
    done = export(site, folder, days=30.0)
    assert done.studies == 0
    assert len(list((folder / "series").glob("*.npz"))) == 2
    site.clock.forward(300 * 86400)
    export(site, folder)
    assert list((folder / "series").iterdir()) == []


# ------------------------------------------------------------------ the salt, the facts


def test_the_salt_is_made_once_and_kept_to_its_owner(tmp_path: Path) -> None:
    """Of many who ask at once each gets the same."""
    found = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(site_salt(tmp_path / "models"))

    people = [threading.Thread(target=ask) for _ in range(8)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert len(set(found)) == 1
    assert len(found[0]) == 32
    assert (tmp_path / "models" / "site-salt").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["site-salt"]


def test_a_damaged_salt_is_not_replaced(tmp_path: Path) -> None:
    """Another one would make every patient a stranger."""
    (tmp_path / "site-salt").write_text("abc\n")
    with pytest.raises(ConfigurationError, match="backup"):
        site_salt(tmp_path)
    assert (tmp_path / "site-salt").read_text() == "abc\n"


def test_a_name_in_a_field_of_the_scanner_stays_here(site: SimulatedSite) -> None:
    """Somebody typed the patient's name where the kernel belongs."""
    study = site.scan(analysed(Finding.NEGATIVE))
    path = study.series["head"][0]
    header = site.worklist.cases.instances(1, 1)[0].header
    assert facts_of(header, path)["manufacturer"] == "ichnode phantom"
    surname = header.patient_name.split("^")[0]
    assert innocent(f"for {surname.lower()}", header) == ""
    assert innocent(f"{header.patient_id}", header) == ""
    assert innocent("H30s", header) == "H30s"
    assert (MANUFACTURER, MODEL_NAME) == SIMULATED
