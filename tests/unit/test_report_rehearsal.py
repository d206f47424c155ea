"""The deliver role rehearses before it says that it is ready."""

from __future__ import annotations

from ichnode.report.rehearsal import rehearse
from ichnode.settings import ReportSettings


def test_a_rehearsal_builds_a_whole_report_and_leaves_nothing(tmp_path, monkeypatch):
    """It goes through the real writer, and its temporary folder is gone afterwards."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    rehearse(ReportSettings())
    assert list(tmp_path.iterdir()) == []
