"""Send files by C-STORE as a scanner or an archive does, and ask a peer whether it is there.

Behind ``ichnode send`` and ``ichnode echo``, and the simulated scanner of demo, tests and
benchmarks. The data sets go as they are in the files, in their own transfer syntax.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from ichnode.domain.errors import PeerFailure
from ichnode.send.association import (
    IMPLICIT_LE,
    MAX_CONTEXTS,
    NothingAccepted,
    Peer,
    abandon,
    accepted,
    associate,
    is_warning,
    status_of,
)
from ichnode.send.scu import MEDIUM

VERIFICATION = "1.2.840.10008.1.1"
_PREFIX_AT, _PREFIX = 128, b"DICM"


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one file."""

    path: Path
    status: int | None  # the peer's answer; None where there was none
    error: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the peer took it, with or without a Warning."""
        return self.status is not None and (self.status == 0 or is_warning(self.status))


@dataclass(frozen=True, slots=True)
class Echo:
    """What came of a C-ECHO."""

    ok: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    context: tuple[str, str]  # SOP class, transfer syntax


def find_files(folder: Path) -> list[Path]:
    """Return a file, or the DICOM files below a folder, in the order of their names."""
    if folder.is_file():
        return [folder]
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_part10(path)]


def _is_part10(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(_PREFIX_AT)
        return file.read(len(_PREFIX)) == _PREFIX


def echo(host: str, port: int, *, called_ae: str, calling_ae: str, timeout_s: float = 10.0) -> Echo:
    """Ask a peer whether it is there (C-ECHO)."""
    peer = Peer(host, port, called_ae, calling_ae, timeout_s)
    try:
        with associate(peer, [(VERIFICATION, IMPLICIT_LE)]) as association:
            status = status_of(association.send_c_echo())
    except (PeerFailure, RuntimeError) as error:
        return Echo(False, str(error))
    if status == 0:
        return Echo(True, "It answers.")
    answer = "does not answer" if status is None else f"answers with status 0x{status:04X}"
    return Echo(False, f"The peer {answer}.")


@dataclass
class Sender:
    """Sends files to one peer.

    Attributes
    ----------
    peer : Peer
        Where to.
    associations : int
        So many side by side, each with its share of the files.
    one_per_association : bool
        Open a new association for each file, as some scanners do.
    priority : int
        Of the C-STORE requests; 0 medium, 1 high, 2 low.
    on_sent : callable, optional
        Called with each result as it comes, one at a time.
    before_release : callable, optional
        Called when everything was answered and the association is still open: a scanner that holds
        its association open waits here.
    """

    peer: Peer
    associations: int = 1
    one_per_association: bool = False
    priority: int = MEDIUM
    on_sent: Callable[[FileResult], None] | None = None
    before_release: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def send(self, files: Sequence[Path]) -> list[FileResult]:
        """Send files in their order and return what became of each, in that order."""
        shares = [list(files[start :: self.associations]) for start in range(self.associations)]
        with ThreadPoolExecutor(self.associations, thread_name_prefix="sender") as pool:
            done = list(pool.map(self._share, [share for share in shares if share]))
        by_path = {result.path: result for results in done for result in results}
        return [by_path[path] for path in files]

    def _share(self, paths: Sequence[Path]) -> list[FileResult]:
        results: list[FileResult] = []
        for batch in self._batches(paths, results):
            results += self._batch(batch)
        return results

    def _batches(self, paths: Sequence[Path], results: list[FileResult]) -> Iterator[list[_File]]:
        """Cut the files into what fits one association; unreadable ones become results at once."""
        batch: list[_File] = []
        for path in paths:
            try:
                file = _described(path)
            except (InvalidDicomError, OSError, ValueError, AttributeError) as error:
                results.append(self._told(FileResult(path, None, f"no DICOM file: {_name(error)}")))
                continue
            kinds = {file.context for file in batch} | {file.context}
            if batch and (self.one_per_association or len(kinds) > MAX_CONTEXTS):
                yield batch
                batch = []
            batch.append(file)
        if batch:
            yield batch

    def _batch(self, batch: Sequence[_File]) -> list[FileResult]:
        """Send over one association; what was not answered when it ended is said to be so."""
        results: list[FileResult] = []
        contexts = sorted({file.context for file in batch})
        error = "the connection was lost"
        try:
            with associate(self.peer, contexts) as association:
                results.extend(self._stored(association, batch))
                if self.before_release is not None:
                    self.before_release()
        except NothingAccepted:
            error = "not accepted: SOP class or transfer syntax"
        except PeerFailure as failure:
            error = str(failure)
        rest = batch[len(results) :]
        return results + [self._told(FileResult(file.path, None, error)) for file in rest]

    def _stored(self, association: Any, batch: Iterable[_File]) -> Iterator[FileResult]:
        taken = accepted(association)
        for number, file in enumerate(batch, start=1):
            if file.context not in taken:
                error = "not accepted: SOP class or transfer syntax"
                yield self._told(FileResult(file.path, None, error))
                continue
            if not association.is_established:
                return
            yield self._told(self._store(association, file, number))

    def _store(self, association: Any, file: _File, number: int) -> FileResult:
        try:
            answer = association.send_c_store(
                file.path, msg_id=number % 0x10000, priority=self.priority
            )
        except (AttributeError, OSError, RuntimeError, ValueError) as error:
            return FileResult(file.path, None, f"could not be sent: {_name(error)}")
        status = status_of(answer)
        if status is None:
            abandon(association)
            return FileResult(file.path, None, "no answer")
        good = status == 0 or is_warning(status)
        return FileResult(file.path, status, "" if good else f"refused with 0x{status:04X}")

    def _told(self, result: FileResult) -> FileResult:
        if self.on_sent is not None:
            with self._lock:
                self.on_sent(result)
        return result


def send_files(
    files: Sequence[Path],
    *,
    host: str,
    port: int,
    called_ae: str,
    calling_ae: str,
    timeout_s: float = 30.0,
    associations: int = 1,
    one_per_association: bool = False,
    priority: int = MEDIUM,
    on_sent: Callable[[FileResult], None] | None = None,
    before_release: Callable[[], None] | None = None,
) -> list[FileResult]:
    """Send files; see `Sender` for what the options do."""
    return Sender(
        Peer(host, port, called_ae, calling_ae, timeout_s),
        associations=associations,
        one_per_association=one_per_association,
        priority=priority,
        on_sent=on_sent,
        before_release=before_release,
    ).send(files)


def _described(path: Path) -> _File:
    """Read of a file what the negotiation needs."""
    if not _is_part10(path):
        raise InvalidDicomError("no prefix")
    meta = read_file_meta_info(path)
    return _File(path, (str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)))


def _name(error: Exception) -> str:
    return type(error).__name__
