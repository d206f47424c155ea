"""A real Orthanc of its own, with a folder of its own, for tests and benchmarks."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

START_S = 30.0


class Orthanc:
    """Orthanc as a child process; a context manager that returns when it answers.

    Parameters
    ----------
    program : str
        The executable.
    sync : bool
        Orthanc's own durability: flush each file to the disk before the answer.
    folder : Path or None
        Where its storage is; None makes one that is removed at the end.
    aet : str
        Its AE title.
    options : Any
        More of its configuration, by its own names.
    """

    def __init__(
        self,
        program: str = "Orthanc",
        *,
        sync: bool = True,
        folder: Path | None = None,
        aet: str = "ORTHANC",
        **options: Any,
    ) -> None:
        self._program, self._sync, self.aet = program, sync, aet
        self._options, self._given = options, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.folder, self.dicom_port, self.http_port = folder or Path(), 0, 0
        self._http = httpx.Client(timeout=30, trust_env=False)

    def __enter__(self) -> Orthanc:
        self.folder = self._given or Path(tempfile.mkdtemp(prefix="ichnode-orthanc-"))
        for _ in range(5):  # somebody else may take a port between the choice and the start
            self._start()
            if self._answers():
                return self
            self._end()
        raise RuntimeError(f"Orthanc did not start; see {self.folder / 'orthanc.log'}")

    def __exit__(self, *_: object) -> None:
        self._end()
        self._http.close()
        if self._given is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        self.dicom_port, self.http_port = _free_port(), _free_port()
        configuration = {
            "Name": "ichnode-test",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "index"),
            "Plugins": [],
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomPort": self.dicom_port,
            "DicomAet": self.aet,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowEcho": True,
            "SyncStorageArea": self._sync,
            "SaveJobs": False,
            **self._options,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration))
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, str(path)], stdout=log, stderr=log)

    def _answers(self) -> bool:
        """Wait until both ports answer; False when it ended instead."""
        pause, deadline = threading.Event(), time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                return False
            try:
                answer = self._http.get(self._url("system"))
                if answer.status_code != httpx.codes.UNAUTHORIZED:  # it may know users
                    answer.raise_for_status()
                socket.create_connection(("127.0.0.1", self.dicom_port), 1).close()
                return True
            except (httpx.HTTPError, OSError):
                pause.wait(0.05)
        return False

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}/{path}"

    def get(self, path: str) -> Any:
        """Return what the REST API answers, parsed."""
        answer = self._http.get(self._url(path))
        answer.raise_for_status()
        return answer.json()

    def file(self, instance: str) -> bytes:
        """Return the file of an instance, by Orthanc's own identifier."""
        answer = self._http.get(self._url(f"instances/{instance}/file"))
        answer.raise_for_status()
        return answer.content

    def instances(self) -> list[dict[str, Any]]:
        """Return what Orthanc has, each with its ``ID`` and ``MainDicomTags``."""
        return list(self.get("instances?expand"))

    def sop_uids(self) -> set[str]:
        """Return the SOP Instance UIDs that Orthanc has."""
        return {one["MainDicomTags"]["SOPInstanceUID"] for one in self.instances()}

    def clear(self) -> None:
        """Forget everything."""
        for patient in self.get("patients"):
            self._http.delete(self._url(f"patients/{patient}")).raise_for_status()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
        """Wait until a condition holds; False when it did not in time."""
        pause, deadline = threading.Event(), time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if condition():
                return True
            pause.wait(0.05)
        return condition()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
