"""Files that survive a power cut: written aside, made durable, then given their name.

Layout below the spool folder (one shared file system for all hosts of a node)::

    incoming/<host-id>/      the journal of one receiver; it alone replays it
    instances/ab/<sha256>.dcm
    documents/ab/<sha256>.dcm

Paths that are kept in the database are relative to the spool folder, with forward slashes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ichnode.domain.errors import OutOfSpace


def instance_path(sha256: str) -> str:
    """Return where an instance with this digest is kept, relative to the spool."""
    return f"instances/{sha256[:2]}/{sha256}.dcm"


def document_path(sha256: str) -> str:
    """Return where a document with this digest is kept, relative to the spool."""
    return f"documents/{sha256[:2]}/{sha256}.dcm"


def resolve(spool: Path, relative: str) -> Path:
    """Return the file behind a stored path.

    Raises
    ------
    ValueError
        When the path would lead out of the spool.
    """
    parts = PurePosixPath(relative)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError("a stored path must stay inside the spool")
    return spool / parts


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a file's own fsync does not)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, each name durable in its parent."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        sync_folder(one.parent)


def write_durable(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file so that after return it is there whole, and before return not at all.

    Parameters
    ----------
    path : Path
        The final name; an existing file is replaced in one step.
    content : bytes or iterable of bytes
        What goes in.

    Raises
    ------
    OutOfSpace
        When the disk is full; nothing is left behind.
    """
    make_folder(path.parent)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with aside.open("wb") as file:
            for chunk in (content,) if isinstance(content, bytes) else content:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        if is_full(error):
            raise OutOfSpace("The disk of the spool is full.") from error
        raise


def is_full(error: OSError) -> bool:
    """Say whether an error means that there is no more room (ENOSPC, EDQUOT)."""
    return error.errno in {28, 122}


def free_bytes(folder: Path) -> int:
    """Return the room that is left on the file system of `folder`."""
    return shutil.disk_usage(folder).free
