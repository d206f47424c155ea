"""Names that are always the same for the same one and say nothing of who it is.

The site's salt is what stands between a pseudonym and the patient's number, which is short enough
to be guessed. It is made once, kept beside the models, and never changed: with another one old
patients would be new ones, and the split of training and holdout would leak.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from ichnode.domain.errors import ConfigurationError
from ichnode.spool import make_folder, sync_folder

SALT_FILE = "site-salt"
_BYTES = 32


def site_salt(models: Path) -> bytes:
    """Return the site's salt, made the first time that it is asked for.

    Of two processes that make it at once one wins, and both return the same.

    Parameters
    ----------
    models : Path
        The registry of models; the file in it is readable by its owner alone.

    Raises
    ------
    ConfigurationError
        When the file is there and damaged. It is not replaced.
    """
    path = models / SALT_FILE
    if not path.exists():
        _make(path)
    try:
        salt = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        salt = b""
    if len(salt) != _BYTES:
        raise ConfigurationError(
            f"{path} is damaged; put it back from the backup. With a new one every patient would "
            "be a stranger, and the holdout would leak into training."
        )
    return salt


def _make(path: Path) -> None:
    make_folder(path.parent)
    aside = path.with_name(f".{SALT_FILE}.{secrets.token_hex(4)}.part")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{secrets.token_hex(_BYTES)}\n")
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(aside)
    aside.unlink()
    sync_folder(path.parent)


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Gives names under one salt."""

    salt: bytes = field(repr=False)

    def patient(self, issuer: str, patient_id: str, study_uid: str) -> str:
        """Return the name of a patient; a study without a patient ID is a patient of its own."""
        if not patient_id.strip():
            return self._name("patient of study", study_uid)
        return self._name("patient", issuer.strip(), patient_id.strip())

    def study(self, study_uid: str) -> str:
        """Return the name of a study."""
        return self._name("study", study_uid)

    def series(self, series_uid: str, set_digest: str) -> str:
        """Return the name of one set of slices of a series."""
        return self._name("series", series_uid, set_digest)

    def _name(self, *parts: str) -> str:
        message = "|".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self.salt, message.encode(), hashlib.sha256).hexdigest()[:16]
