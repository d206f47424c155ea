"""The sender of whole folders, which is also the simulated scanner."""

from __future__ import annotations

import threading

from pynetdicom import AllStoragePresentationContexts

from ichnode.send.sender import echo, find_files, send_files
from tests.documents import ct_slice, data_set_of, part10
from tests.pacs import (
    CT_IMAGE,
    EXPLICIT_LE,
    Act,
    Pacs,
    black_hole,
    closed_port,
    deaf_after_accepting,
    silent_listener,
)


def write_slices(folder, count=6):
    """Write a small series and return its files."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number:03}.dcm").write_bytes(part10(ct_slice(number)))
    return find_files(folder)


def send(files, pacs, **options):
    """Send files to a PACS with the options of `send_files`."""
    return send_files(
        files, host="127.0.0.1", port=pacs.port, called_ae="PACS", calling_ae="SCANNER", **options
    )


def test_a_folder_goes_over_one_association_in_order(tmp_path):
    """Every DICOM file below a folder is sent as it is, in the order of names; others are not."""
    files = write_slices(tmp_path / "series")
    (tmp_path / "series" / "notes.txt").write_text("no image")
    assert find_files(tmp_path) == files
    seen = []
    with Pacs() as pacs:
        results = send(files, pacs, on_sent=seen.append)
        assert pacs.associations == 1
        received = [one.data_set for one in pacs.kept]
    assert received == [data_set_of(path.read_bytes()) for path in files]
    assert [result.path for result in results] == files
    assert all(result.accepted for result in results)
    assert seen == results


def test_one_association_per_image(tmp_path):
    """A scanner that opens an association per image is simulated as such."""
    files = write_slices(tmp_path)
    with Pacs() as pacs:
        assert all(r.accepted for r in send(files, pacs, one_per_association=True))
        assert pacs.associations == len(files)


def test_side_by_side_associations_share_the_files(tmp_path):
    """Three associations send every file exactly once, and results keep the files' order."""
    files = write_slices(tmp_path, 7)
    with Pacs() as pacs:
        results = send(files, pacs, associations=3)
        assert pacs.associations == 3
        assert len({one.sop_uid for one in pacs.kept}) == len(pacs.kept) == 7
    assert [result.path for result in results] == files


def test_an_association_can_be_held_open(tmp_path):
    """Everything is answered while the association is still open, until the caller lets go."""
    files = write_slices(tmp_path, 2)
    answered, let_go = threading.Event(), threading.Event()

    def hold():
        answered.set()
        let_go.wait(30)

    with Pacs() as pacs:
        thread = threading.Thread(target=send, args=(files, pacs), kwargs={"before_release": hold})
        thread.start()
        assert answered.wait(30)
        assert len(pacs.kept) == 2
        assert thread.is_alive()
        let_go.set()
        thread.join(30)
    assert not thread.is_alive()


def test_every_file_has_its_own_result(tmp_path):
    """Refusals, warnings, unknown classes and non-DICOM files are each told."""
    files = write_slices(tmp_path, 3)
    odd = tmp_path / "odd.dcm"
    odd.write_bytes(part10(ct_slice(9, SOPClassUID="1.2.840.10008.5.1.4.1.1.4")))
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"not DICOM")
    with Pacs((CT_IMAGE,), script=[0xA700, 0xB000]) as pacs:
        results = send([*files, odd, broken], pacs)
    assert [r.status for r in results] == [0xA700, 0xB000, 0, None, None]
    assert [r.accepted for r in results] == [False, True, True, False, False]
    assert results[0].error == "refused with 0xA700"
    assert results[3].error == "not accepted: SOP class or transfer syntax"
    assert results[4].error.startswith("no DICOM file")


def test_more_kinds_than_an_association_has_room_for(tmp_path):
    """Beyond 128 kinds of objects the sender opens another association."""
    classes = [str(context.abstract_syntax) for context in AllStoragePresentationContexts][:130]
    for number, sop_class in enumerate(classes):
        name = tmp_path / f"{number:03}.dcm"
        name.write_bytes(part10(ct_slice(0, side=16, SOPClassUID=sop_class)))
    with Pacs(classes[:100]) as pacs:
        results = send(find_files(tmp_path), pacs)
        assert pacs.associations == 2
    assert sum(result.accepted for result in results) == 100


def test_a_lost_connection_leaves_a_result_for_every_file(tmp_path):
    """After an abort the rest of the association's files are told as not sent."""
    files = write_slices(tmp_path, 4)
    with Pacs(script=[0, Act.ABORT]) as pacs:
        results = send(files, pacs)
    assert [result.accepted for result in results] == [True, False, False, False]
    assert results[1].error == "no answer"
    assert results[3].error == "the connection was lost"


def test_nobody_there_is_told_for_every_file(tmp_path):
    """Without a peer every file has a result that says so."""
    results = send_files(
        write_slices(tmp_path, 2),
        host="127.0.0.1",
        port=closed_port(),
        called_ae="PACS",
        calling_ae="SCANNER",
    )
    assert [result.error for result in results] == ["The peer cannot be reached."] * 2


def test_echo_says_what_it_found():
    """C-ECHO succeeds with a peer and says why not without one, within its time-out."""
    who = {"called_ae": "PACS", "calling_ae": "SCANNER"}
    with Pacs() as pacs:
        assert echo("127.0.0.1", pacs.port, **who).ok
    with Pacs(reject=1) as pacs:
        assert "rejected" in echo("127.0.0.1", pacs.port, **who).sentence
    assert echo("127.0.0.1", closed_port(), **who).sentence == "The peer cannot be reached."
    with silent_listener() as port:
        assert not echo("127.0.0.1", port, **who, timeout_s=0.5).ok
    with black_hole() as port:
        assert not echo("127.0.0.1", port, **who, timeout_s=0.5).ok
    assert not echo("no.such.host.invalid", 104, **who, timeout_s=0.5).ok


def test_a_peer_that_stops_reading_does_not_block_the_sender(tmp_path):
    """A peer that takes the association and then reads nothing is given up after the time-out."""
    large = tmp_path / "large.dcm"
    large.write_bytes(part10(ct_slice(0, side=2048)))
    with deaf_after_accepting(CT_IMAGE, EXPLICIT_LE) as port:
        results = send_files(
            [large],
            host="127.0.0.1",
            port=port,
            called_ae="PACS",
            calling_ae="SCANNER",
            timeout_s=1.0,
        )
    assert not results[0].accepted
