"""Files are there whole or not at all, and never outside the spool."""

from __future__ import annotations

import errno

import pytest

from ichnode import spool
from ichnode.domain.errors import OutOfSpace


def test_a_durable_file_has_its_content_and_leaves_nothing_beside_it(tmp_path):
    """The name appears with the content; the file written aside is gone."""
    path = tmp_path / "documents" / "ab" / "x.dcm"
    spool.write_durable(path, [b"one", b"two"])
    assert path.read_bytes() == b"onetwo"
    assert [p.name for p in path.parent.iterdir()] == ["x.dcm"]


def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path):
    """ENOSPC in the middle of a write becomes OutOfSpace and no half file."""

    def pieces():
        yield b"begin"
        raise OSError(errno.ENOSPC, "no room")

    with pytest.raises(OutOfSpace):
        spool.write_durable(tmp_path / "x.dcm", pieces())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x"])
def test_a_stored_path_cannot_leave_the_spool(tmp_path, path):
    """A row that was tampered with does not open other files."""
    with pytest.raises(ValueError, match="inside the spool"):
        spool.resolve(tmp_path, path)


def test_paths_are_spread_over_folders():
    """Names come from the content, so that a zombie cannot overwrite anything."""
    assert spool.instance_path("abcdef") == "instances/ab/abcdef.dcm"
    assert spool.document_path("abcdef") == "documents/ab/abcdef.dcm"
