"""A small demonstration PACS: a Storage SCP and a UPS SCP with a reading list.

It is there for `ichnode demo` and shows what a site's own PACS would do. Its list is first in,
first out until a priority arrives. Only headers are kept of images; of documents (SR, Secondary
Capture) the whole file, so that a person can open them. It is no archive and must not become one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    Verification,
)

from ichnode.domain.ids import is_uid, result_uid

_RANK = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}


@dataclass(frozen=True, slots=True)
class ReceivedDocument:
    """A document that came from ichnode."""

    path: Path
    modality: str
    at: float  # monotonic, when it was acknowledged


@dataclass
class ReadingTask:
    """One study that waits to be read."""

    uid: str
    study_uid: str
    accession_number: str
    patient_id: str
    patient_name: str
    arrival: int
    priority: str = "MEDIUM"
    images: int = 0
    documents: list[ReceivedDocument] = field(default_factory=list)


class DemoPacs:
    """The demonstration PACS, on a port that the system chooses.

    Parameters
    ----------
    folder : Path
        Where documents are written.
    ae_title : str
        What it is called.
    """

    def __init__(self, folder: Path, ae_title: str = "DEMOPACS") -> None:
        self.folder, self.ae_title = folder, ae_title
        self._lock = threading.Lock()
        self._tasks: dict[str, ReadingTask] = {}
        ae = AE(ae_title)
        ae.maximum_pdu_size = 131072
        ae.supported_contexts = AllStoragePresentationContexts
        for context in (
            Verification,
            UnifiedProcedureStepPush,
            UnifiedProcedureStepPull,
            UnifiedProcedureStepQuery,
        ):
            ae.add_supported_context(context)
        handlers = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_N_SET, self._on_set),
            (evt.EVT_N_CREATE, self._on_create),
            (evt.EVT_N_GET, self._on_get),
        ]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port: int = self._server.socket.getsockname()[1]

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()

    def reading_list(self) -> list[ReadingTask]:
        """Return the tasks as a reader would see them: by priority, then by arrival."""
        with self._lock:
            tasks = list(self._tasks.values())
        return sorted(tasks, key=lambda t: (_RANK.get(t.priority, 1), t.arrival))

    def arrivals(self) -> list[ReadingTask]:
        """Return the tasks first in, first out: the list without ichnode."""
        return sorted(self.reading_list(), key=lambda t: t.arrival)

    def _task(self, dataset: Dataset) -> ReadingTask:
        study_uid = str(dataset.StudyInstanceUID)
        task = self._tasks.get(study_uid)
        if task is None:
            task = ReadingTask(
                uid=result_uid("demo-task", study_uid),
                study_uid=study_uid,
                accession_number=str(dataset.get("AccessionNumber", "")),
                patient_id=str(dataset.get("PatientID", "")),
                patient_name=str(dataset.get("PatientName", "")),
                arrival=len(self._tasks),
            )
            self._tasks[study_uid] = task
        return task

    def _on_store(self, event: Any) -> int:
        content = event.encoded_dataset()
        dataset = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
        if not is_uid(str(dataset.get("SOPInstanceUID", ""))):
            return 0xA900  # and no file name is made of it
        with self._lock:
            task = self._task(dataset)
            if str(dataset.get("ManufacturerModelName", "")) != "ichnode":
                task.images += 1
                return 0x0000
            path = self.folder / f"{dataset.Modality}-{dataset.SOPInstanceUID}.dcm"
            path.write_bytes(content)
            if path not in {document.path for document in task.documents}:
                modality = str(dataset.Modality)
                task.documents.append(ReceivedDocument(path, modality, time.monotonic()))
        return 0x0000

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        for task in self.reading_list():
            if _matches(task, asked):
                yield 0xFF00, _attributes(task)

    def _by_uid(self, uid: str) -> ReadingTask | None:
        with self._lock:
            return next((t for t in self._tasks.values() if t.uid == uid), None)

    def _on_set(self, event: Any) -> tuple[int, Dataset | None]:
        task = self._by_uid(str(event.request.RequestedSOPInstanceUID))
        if task is None:
            return 0xC307, None  # PS3.4 CC.2.6.4: no such UPS
        priority = str(event.modification_list.get("ScheduledProcedureStepPriority", ""))
        if priority not in _RANK:
            return 0x0106, None  # invalid attribute value
        task.priority = priority
        return 0x0000, None

    def _on_get(self, event: Any) -> tuple[int, Dataset | None]:
        task = self._by_uid(str(event.request.RequestedSOPInstanceUID))
        return (0x0000, _attributes(task)) if task else (0xC307, None)

    def _on_create(self, event: Any) -> tuple[int, Dataset | None]:
        asked = event.attribute_list
        with self._lock:
            if str(asked.get("StudyInstanceUID", "")) in self._tasks:
                return 0x0111, None  # a reading task of that study is there
            task = self._task(asked)
            task.priority = str(asked.get("ScheduledProcedureStepPriority", "MEDIUM"))
        return 0x0000, None


def _matches(task: ReadingTask, asked: Dataset) -> bool:
    """Match on what ichnode asks for; the tasks here are all SCHEDULED."""
    wanted_study = str(asked.get("StudyInstanceUID", ""))
    wanted_state = str(asked.get("ProcedureStepState", ""))
    return wanted_study in ("", task.study_uid) and wanted_state in ("", "SCHEDULED")


def _attributes(task: ReadingTask) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = UnifiedProcedureStepPush
    dataset.SOPInstanceUID = task.uid
    dataset.StudyInstanceUID = task.study_uid
    dataset.ProcedureStepState = "SCHEDULED"
    dataset.ScheduledProcedureStepPriority = task.priority
    dataset.ProcedureStepLabel = "Interpretation"
    return dataset
