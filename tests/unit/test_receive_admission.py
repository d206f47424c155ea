"""Which objects and syntaxes are taken, and what stands before a stored data set."""

from __future__ import annotations

import threading
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, UID_dictionary
from pynetdicom import AllStoragePresentationContexts

from ichnode.domain.errors import OutOfSpace
from ichnode.domain.ids import IMPLEMENTATION_CLASS_UID, is_strict_uid
from ichnode.receive.admission import (
    OWN_ECHOES,
    Admission,
    Application,
    is_storage,
    plain_address,
    transfer_syntaxes,
)
from ichnode.receive.part10 import file_head
from ichnode.settings import ReceiveSettings

CT = "1.2.840.10008.5.1.4.1.1.2"


def application(address: str = "10.1.2.3", **fields: object) -> Application:
    known = {
        "calling_ae": "CT01",
        "called_ae": "ICHNODE",
        "address": address,
        "local_address": "10.1.2.9",
        "abstract_syntaxes": frozenset({CT}),
    }
    return Application(**known | fields)


def test_every_storage_class_of_the_library_is_taken() -> None:
    """All that pynetdicom knows."""
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    assert [uid for uid in classes if not is_storage(uid)] == []


@pytest.mark.parametrize(
    ("uid", "taken"),
    [
        ("1.3.12.2.1107.5.9.1", True),  # Siemens CSA non-image
        ("1.2.840.10008.5.1.4.1.1.4711", True),  # of a later edition
        ("1.2.840.10008.5.1.4.1.2.2.1", False),  # Study Root find
        ("1.2.840.10008.1.20.1", False),  # Storage Commitment
        ("1.2.840.10008.1.3.10", False),  # Media Storage Directory
        ("1.2.840.10008.3.1.2.3.3", False),  # MPPS
        ("1.2.840.10008.1.2.1", False),  # a transfer syntax
        ("../1.2", False),
        ("", False),
    ],
)
def test_other_classes(uid: str, taken: bool) -> None:
    """Private and future storage classes are taken, services are not."""
    assert is_storage(uid) is taken


def test_every_standard_syntax_with_pixels_is_taken() -> None:
    """Lossless, lossy, video, deflated and big endian; not those that refer elsewhere."""
    standard = [uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]
    left_out = set(standard) - set(transfer_syntaxes(standard))
    assert all(
        any(word in UID(uid).name for word in ("JPIP", "SMPTE", "MIME", "XML", "REPRESENTATION"))
        for uid in left_out
    )
    assert len(left_out) <= 10


def test_the_order_of_syntaxes() -> None:
    """Explicit little endian first, private last, the sender's order among the others."""
    offered = ["1.2.840.113619.5.2", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"]
    assert transfer_syntaxes(["nonsense", *offered, "1.2.840.10008.1.2.1"]) == [
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.5",
        "1.2.840.113619.5.2",
    ]


def test_addresses_are_compared_plainly() -> None:
    """IPv4 within IPv6 counts as IPv4, and a zone does not count."""
    assert plain_address("::ffff:10.0.0.1") == "10.0.0.1"
    assert plain_address("fe80::1%eth0") == "fe80::1"


def test_places_are_counted_exactly_under_contention() -> None:
    """Whatever the threads do, never more than the limit are inside, and all leave."""
    settings = ReceiveSettings(max_associations=7, max_associations_per_peer=3)
    admission = Admission(settings, lambda: None)
    most = []

    def visit(address: str) -> None:
        for _ in range(200):
            if admission.enter(application(address)) is None:
                most.append(admission.inside)
                admission.leave(application(address))

    threads = [threading.Thread(target=visit, args=(f"10.0.0.{n % 4}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert admission.inside == 0
    assert max(most) <= 7


def test_an_own_echo_passes_lists_a_full_disk_and_a_full_house() -> None:
    """A health check of this machine takes nobody's place; storing under that cover fails."""

    def full() -> None:
        raise OutOfSpace("full.")

    settings = ReceiveSettings(networks=("192.168.0.0/16",), max_associations=1)
    admission = Admission(settings, full)
    echo = {"abstract_syntaxes": frozenset({"1.2.840.10008.1.1"})}
    own = application("10.1.2.9", **echo)
    assert [admission.enter(own) for _ in range(OWN_ECHOES)] == [None] * OWN_ECHOES
    assert admission.inside == 0
    assert admission.enter(own).reason == 2
    admission.leave(own)
    assert admission.enter(own) is None
    assert admission.enter(application("10.1.2.9")).reason == 1
    assert admission.enter(application("10.1.2.8", **echo)).result == 1


def test_the_file_head_is_what_pydicom_writes() -> None:
    """The same file meta information, byte for byte, and readable."""
    head = file_head(CT, "1.2.3.45", str(ExplicitVRLittleEndian))
    meta = dcmread(BytesIO(head)).file_meta
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.45"
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert is_strict_uid(IMPLEMENTATION_CLASS_UID)
    written = DicomBytesIO()
    write_file_meta_info(written, meta)
    assert head[132:] == written.getvalue()
