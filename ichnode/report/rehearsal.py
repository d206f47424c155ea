"""One report that nobody gets: highdicom and pydicom load their code tables when first asked.

The first report of a process took 0.4 to 0.9 s and each further one 0.08 s; a bleed must not be the
one that waits.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from ichnode.domain.findings import LABELS, AnalysisResult, Finding, LabelResult, Presence
from ichnode.domain.ids import result_uid
from ichnode.domain.series import Header, InstanceRef
from ichnode.domain.work import DocumentWork, Lease
from ichnode.report.encoding import EXPLICIT_LE, file_bytes
from ichnode.report.source import Source
from ichnode.report.structured_report import COMPREHENSIVE_3D_SR, structured_report
from ichnode.settings import ReportSettings

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_UID = result_uid("rehearsal")
_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)


def rehearse(settings: ReportSettings) -> None:
    """Build a report of a made-up series, and throw it away."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made-up.dcm"
        path.write_bytes(file_bytes(CT_IMAGE, _UID, {}))
        structured_report(_work(), settings, Source(path))


def _work() -> DocumentWork:
    labels = tuple(LabelResult(label, 0.5, Presence.PRESENT, _UID) for label in LABELS)
    return DocumentWork(
        lease=Lease(0, "", 1, _MOMENT),
        kind="sr",
        sop_class_uid=COMPREHENSIVE_3D_SR,
        sop_uid=_UID,
        study_uid=_UID,
        series_uid=_UID,
        set_digest="",
        analysed_at=_MOMENT,
        result=AnalysisResult(_UID, "none", "0", Finding.POSITIVE, labels, (), 0.0),
        instances=(InstanceRef("", "", EXPLICIT_LE, Header(_UID, CT_IMAGE, _UID, _UID)),),
    )
