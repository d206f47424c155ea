"""Instance files: copied out of the journal under their digest, and made durable in batches."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ichnode.domain.errors import OutOfSpace, Transient
from ichnode.domain.series import Arrival
from ichnode.receive.segment import Place
from ichnode.spool import is_full, make_folder

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Stored:
    """A durable instance on its way to the worklist."""

    arrival: Arrival
    place: Place
    again: bool = False  # a file of that name may be torn: replayed, or a barrier failed


class Filing:
    """The files of what the journal holds.

    Parameters
    ----------
    spool : Path
        Where they go.
    """

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._file_system = -1

    def open(self) -> None:
        """Make the folder, and open the file system for `sync`.

        Once, and not for each barrier: what could not be written back is told to those who had the
        file system open by then.
        """
        folder = self._spool / "instances"
        make_folder(folder)
        self._file_system = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the file system; a second time does nothing."""
        if self._file_system >= 0:
            os.close(self._file_system)
            self._file_system = -1

    def file(self, instances: Sequence[Stored]) -> None:
        """Write the files, but for those that are there and not in doubt.

        Raises
        ------
        OutOfSpace
            When the disk is full.
        Transient
            When a file could not be written.
        """
        try:
            for instance in instances:
                self._write(instance)
        except OSError as error:
            if is_full(error):
                raise OutOfSpace("The disk of the spool is full.") from error
            raise Transient("An instance file could not be written.") from error

    def file_missing(self, instances: Sequence[Stored]) -> None:
        """Write the files that are not there; see `file`."""
        self.file([replace(instance, again=False) for instance in instances])

    def _write(self, instance: Stored) -> None:
        path = self._spool / instance.arrival.path
        if not instance.again:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size == instance.place.body_bytes:
                    return
        aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}.part")
        try:
            descriptor = os.open(aside, _NEW_FILE, 0o640)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(aside, _NEW_FILE, 0o640)
        try:
            instance.place.copy_to(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        aside.replace(path)

    def sync(self) -> None:
        """Make every file and name of the file system of the spool durable.

        One call for a batch of files, each in a folder of its own, instead of three barriers for
        each; errors of writing back are reported by Linux 5.8 and later, to each open descriptor
        once.

        Raises
        ------
        OSError
            When something could not be written back, whatever it was.
        """
        if _LIBC.syncfs(self._file_system):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
