"""Scriptable peers for the receiver: a well-behaved scanner, a misbehaving one, and a notebook."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_RQ, A_RELEASE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from ichnode.domain.errors import WorklistDown
from ichnode.domain.series import Arrival, Refusal
from ichnode.send.association import parked

LIMIT_S = 20.0
ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RP, ABORT = 2, 3, 4, 6, 7


def ct(number: int = 1, *, series: str = "1.2.826.9.1", rows: int = 32, **elements: Any) -> Dataset:
    """Return a small CT image of an invented patient; `elements` are set last."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{series}.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.9", series
    dataset.PatientName, dataset.PatientID = "Secret^Name", "SECRET-ID"
    dataset.Modality, dataset.InstanceNumber = "CT", number
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, 32, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.PixelData = number.to_bytes(4, "little") * (rows * 16)
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


class Notebook:
    """A worklist in memory that can be out of order and can be waited for."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.arrivals: list[Arrival] = []
        self.events: list[tuple[str, str]] = []  # ("recorded", SOP UID) or ("released", id)
        self.refusals: list[Refusal] = []
        self.down = False
        self.rejects: Callable[[Arrival], bool] = lambda _arrival: False

    def record(self, arrivals: Sequence[Arrival]) -> None:
        with self.changed:
            self._answer()
            if any(self.rejects(arrival) for arrival in arrivals):
                raise ValueError("this database does not like that")
            self.arrivals += arrivals
            self.events += [("recorded", arrival.header.sop_uid) for arrival in arrivals]

    def released(self, association_id: str) -> None:
        with self.changed:
            self._answer()
            self.events.append(("released", association_id))

    def refuse(self, refusal: Refusal) -> None:
        with self.changed:
            self._answer()
            self.refusals.append(refusal)

    def _answer(self) -> None:
        if self.down:
            raise WorklistDown
        self.changed.notify_all()

    def wait(self, condition: Callable[[Notebook], bool]) -> None:
        """Return when it holds; fail when it does not in time."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), timeout=LIMIT_S), "never came"

    @property
    def sop_uids(self) -> list[str]:
        return [arrival.header.sop_uid for arrival in self.arrivals]


# ---------------------------------------------------------------------- a well-behaved scanner


@contextmanager
def scanner(
    port: int,
    *,
    contexts: Sequence[tuple[str, Sequence[str]]] = ((CTImageStorage, (ExplicitVRLittleEndian,)),),
    calling: str = "CT01",
    called: str = "ICHNODE",
    address: str = "127.0.0.1",
) -> Iterator[Association]:
    """Associate, whatever comes of it; release at the end where it still stands."""
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = LIMIT_S
    for abstract, syntaxes in contexts:
        entity.add_requested_context(abstract, list(syntaxes))
    association = entity.associate(address, port, ae_title=called)
    with parked(association):
        try:
            yield association
        finally:
            if association.is_established:
                association.release()


def send(association: Association, dataset: Dataset) -> int:
    """C-STORE a data set; return the status."""
    answer = association.send_c_store(dataset)
    assert "Status" in answer, "no answer"
    return int(answer.Status)


def echoes(port: int) -> bool:
    """Say whether a C-ECHO is answered."""
    with scanner(port, contexts=((Verification, (ExplicitVRLittleEndian,)),)) as association:
        return bool(association.is_established and association.send_c_echo().Status == 0)


# ---------------------------------------------------------------------- a misbehaving one


def associate_request(calling: str = "CT01", abstract: str = CTImageStorage) -> bytes:
    """Return an A-ASSOCIATE-RQ PDU with one context, id 1."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = calling, "ICHNODE"
    context = build_context(abstract, ExplicitVRLittleEndian)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    length = MaximumLengthNotification()
    length.maximum_length_received = 16382
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = generate_uid()
    primitive.user_information = [length, implementation]
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


def store_pdus(
    dataset: Dataset | bytes | None,
    *,
    class_uid: str = CTImageStorage,
    sop_uid: str = "1.2.826.9.1.1",
    pdu_bytes: int = 16_000,
) -> list[bytes]:
    """Return the P-DATA-TF PDUs of a C-STORE request; empty UIDs and a data set None are absent."""
    body = encode(dataset, False, True) if isinstance(dataset, Dataset) else dataset
    fields = _element(0x0002, class_uid.encode()) + _element(0x0100, b"\1\0")
    fields += _element(0x0110, b"\7\0") + _element(0x0700, b"\1\0")
    fields += _element(0x0800, b"\1\1" if body is None else b"\1\0")
    fields += _element(0x1000, sop_uid.encode())
    command = _element(0x0000, struct.pack("<I", len(fields))) + fields
    pdus = [_p_data(3, command)]
    if body is not None:
        parts = [body[at : at + pdu_bytes] for at in range(0, len(body), pdu_bytes)] or [b""]
        pdus += [_p_data(0, part) for part in parts[:-1]] + [_p_data(2, parts[-1])]
    return pdus


def _element(element: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, element, len(value)) + value if value else b""


def _p_data(control: int, fragment: bytes) -> bytes:
    length = len(fragment) + 2
    return struct.pack(">BxLLBB", 4, length + 4, length, 1, control) + fragment


class RawPeer:
    """A TCP connection that says exactly what it is told to."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, *pdus: bytes) -> None:
        for pdu in pdus:
            self._socket.sendall(pdu)

    def associate(self, **request: str) -> None:
        self.say(associate_request(**request))
        assert self.hear()[0] == ASSOCIATE_AC

    def hear(self) -> tuple[int, bytes]:
        """Return the next PDU: its type and body; type 0 when the connection was closed."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        return kind, self._exactly(length)

    def hear_rejection(self, **request: str) -> tuple[int, int, int]:
        """Ask for an association and be rejected: return result, source and reason (PS3.8 9.3.4).

        pynetdicom's requestor may call a rejection an abort where its threads are slow to wake.
        """
        self.say(associate_request(**request))
        kind, body = self.hear()
        assert kind == ASSOCIATE_RJ, f"PDU type {kind} instead of a rejection"
        return body[1], body[2], body[3]

    def hear_status(self) -> int:
        """Return the status of the C-STORE response that comes next."""
        kind, body = self.hear()
        assert kind == P_DATA, f"PDU type {kind} instead of a response"
        at = body.index(b"\0\0\0\x09\2\0\0\0") + 8
        return int(struct.unpack_from("<H", body, at)[0])

    def release(self) -> int:
        """Ask for release; return the type of the answer."""
        self.say(bytes(A_RELEASE_RQ().encode()))
        return self.hear()[0]

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _exactly(self, count: int) -> bytes:
        heard = b""
        while len(heard) < count:
            try:
                part = self._socket.recv(count - len(heard))
            except ConnectionResetError:
                part = b""
            if not part:
                return heard
            heard += part
        return heard
