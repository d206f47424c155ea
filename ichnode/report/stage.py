"""The report stage: one document built, its bytes on stable storage."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import assert_never

import structlog

from ichnode.domain.work import Built, DocumentWork
from ichnode.report.encoding import EXPLICIT_LE
from ichnode.report.heading import document_series_uid
from ichnode.report.key_image import key_image
from ichnode.report.key_objects import key_objects
from ichnode.report.presentation_state import presentation_state
from ichnode.report.source import Source
from ichnode.report.structured_report import structured_report
from ichnode.settings import ReportSettings
from ichnode.spool import document_path, resolve, write_durable

log = structlog.get_logger(__name__)


class ReportStage:
    """Builds documents.

    Parameters
    ----------
    spool : Path
        Where images are read and documents kept.
    settings : ReportSettings
        Names and series numbers.
    """

    def __init__(self, spool: Path, settings: ReportSettings) -> None:
        self._spool, self._settings = spool, settings

    def handle(self, work: DocumentWork) -> Built:
        """Build one document; doing it twice leaves one file.

        Raises
        ------
        NotAnalysable
            When an image that the document is about cannot be read any more.
        OutOfSpace
            When the disk is full.
        """
        began = time.monotonic()
        content = self._content(work)
        digest = hashlib.sha256(content).hexdigest()
        path = document_path(digest)
        write_durable(resolve(self._spool, path), content)
        log.info(
            "document.built",
            kind=work.kind,
            series=work.series_uid,
            sop_class_uid=work.sop_class_uid,
            bytes=len(content),
            duration_s=round(time.monotonic() - began, 3),
        )
        return Built(digest, path, len(content), document_series_uid(work), EXPLICIT_LE)

    def _content(self, work: DocumentWork) -> bytes:
        source = Source(resolve(self._spool, work.instances[0].path))
        match work.kind:
            case "sr":
                return structured_report(work, self._settings, source)
            case "sc":
                return key_image(work, self._settings, source, self._spool)
            case "kos":
                return key_objects(work, self._settings, source)
            case "gsps":
                return presentation_state(work, self._settings, source, self._spool)
        assert_never(work.kind)
