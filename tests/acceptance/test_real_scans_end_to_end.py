"""The main job on real input, as a site would run it, with a real Orthanc."""

from __future__ import annotations

import subprocess
from io import BytesIO

import pydicom
import pytest

from ichnode.domain.lifecycle import Analysis, Band
from ichnode.domain.reasons import Reason
from tests.node import Node, wait_for
from tests.orthanc import Orthanc

pytestmark = [pytest.mark.real, pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(240)]
ROLES = ("receive", "infer", "deliver", "web", "housekeep")


@pytest.fixture(scope="module")
def site(tmp_path_factory, real_data, require_program):
    """A whole node and an Orthanc that gets its reports."""
    folder = tmp_path_factory.mktemp("site")
    with Orthanc(require_program("Orthanc")) as orthanc:
        node = Node(folder, destinations=[("orthanc", orthanc.aet, orthanc.dicom_port, False)])
        try:
            node.start()
            port = int(node.ready(*ROLES)["receive"]["port"])
            yield node, orthanc, port
        finally:
            node.stop()


def settled(node, series_uid):
    """Return the row of a series once it has its statement."""

    def asked():
        row = node.series().get(series_uid)
        return row if row and row.analysis is not Analysis.PENDING and row.due_at is None else None

    return wait_for(asked, 90, f"{series_uid} to settle: {node.log()}")


def storescu(program, port, *files):
    subprocess.run(
        [program, "-aec", "ICHNODE", "127.0.0.1", str(port), *map(str, files)], check=True
    )


def reports_of(orthanc, study_uid):
    """Return the SRs that Orthanc has of a study."""
    files = [BytesIO(orthanc.file(one["ID"])) for one in orthanc.instances()]
    datasets = [pydicom.dcmread(file) for file in files]
    return [d for d in datasets if d.Modality == "SR" and study_uid == d.StudyInstanceUID]


def test_a_real_negative_head_ct_is_analysed_and_reported_to_orthanc(
    site, real_data, require_program
):
    """Sent by dcmtk: not positive, every slice used, one SR in Orthanc with its evidence."""
    node, orthanc, port = site
    files = sorted((real_data / "head_ct_ge").glob("*.dcm"))
    first = pydicom.dcmread(files[0], stop_before_pixels=True)
    storescu(require_program("storescu"), port, *files)
    row = settled(node, first.SeriesInstanceUID)
    assert row.analysis is not Analysis.POSITIVE
    assert row.analysis in (Analysis.NEGATIVE, Analysis.REVIEW)
    assert row.instances == 28
    (report,) = wait_for(lambda: reports_of(orthanc, first.StudyInstanceUID), 60)
    assert report.PatientID == first.PatientID
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == 28
    assert report.VerificationFlag == "UNVERIFIED"


def test_sending_it_again_changes_nothing(site, real_data):
    """`ichnode send` of the same files: all accepted, no second analysis, no second report."""
    node, orthanc, port = site
    folder = real_data / "head_ct_ge"
    first = pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)
    wait_for(lambda: reports_of(orthanc, first.StudyInstanceUID), 60)
    before = node.series()[first.SeriesInstanceUID]
    done = node.call("send", str(folder), f"ICHNODE@127.0.0.1:{port}", "--json")
    assert '"sent": 28' in done.stdout
    after = settled(node, first.SeriesInstanceUID)
    assert (after.instances, after.generation) == (28, before.generation)
    assert len(reports_of(orthanc, first.StudyInstanceUID)) == 1


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("localizer.dcm", {Reason.LOCALIZER}),
        ("exam_summary_secondary_capture.dcm", {Reason.SECONDARY_CAPTURE, Reason.DOSE_REPORT}),
    ],
)
def test_what_is_not_for_analysis_says_why(site, real_data, require_program, name, reasons):
    """A localizer and an exam summary are accepted and end NOT ANALYSED with their reason."""
    node, _orthanc, port = site
    path = real_data / "not_for_analysis" / name
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    storescu(require_program("storescu"), port, path)
    row = settled(node, dataset.SeriesInstanceUID)
    assert row.analysis is Analysis.NOT_ANALYSED
    assert row.reason in reasons
    (study,) = [r for r in node.worklist.views.reading_list(100) if r.study_uid == row.study_uid]
    assert study.band is not Band.URGENT
    assert not [d for d in study.deliveries if d.kind == "sr"]


def test_the_page_shows_the_list_and_the_metrics_count_it(site):
    """The web role serves the same list; no patient is named in the metrics."""
    import httpx

    node, _orthanc, _port = site
    port = int(node.ready("web")["web"]["port"])
    base = f"http://127.0.0.1:{port}"
    page = httpx.get(base)
    assert page.status_code == 200
    listed = httpx.get(f"{base}/api/list").json()
    assert listed
    metrics = httpx.get(f"{base}/metrics").text
    assert "ichnode_series" in metrics
    assert httpx.get(f"{base}/healthz").status_code == 200
