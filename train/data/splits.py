"""Which patients are for what: decided by a keyed hash, so that nobody ever moves.

A patient's new scans fall where the old ones are, whoever else comes or goes. The key is made once
for a site and kept: with another key everybody is dealt anew, and what was held out is no longer.

References
----------
The shares are those of reference protocols for continual learning: 70 % to learn from, and a tenth
each to select a model on, to calibrate on, and to lock away.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ichnode.spool import sync_folder, write_durable
from train.data.views import Slices
from train.errors import TrainingError

SPLITS = ("train", "selection", "calibration", "holdout")
SHARES = (0.7, 0.1, 0.1, 0.1)
_BUCKETS = 1000
_KEY_BYTES = 32


def open_key(path: Path) -> bytes:
    """Return the key of a site, made on first use and never again.

    Raises
    ------
    TrainingError
        When the file holds no key.
    """
    if not path.exists():
        _make_key(path)
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise TrainingError(f"{path} holds no key; restore it from a copy, or all patients move.")
    return key


def _make_key(path: Path) -> None:
    """Write a key aside and give it its name whole; of two who do so at once, one makes the key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(f"{secrets.token_hex(_KEY_BYTES)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)  # unlike a rename it never replaces what is there
        except OSError:  # it is there by now, or the file system knows no links
            if not path.exists():
                aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def keep_shares(path: Path, shares: tuple[float, ...]) -> None:
    """Write down the shares of a site on first use, and hold to them ever after.

    Raises
    ------
    TrainingError
        When they are others than before: patients would move out of the holdout into training.
    """
    if not path.is_file():
        write_durable(path, f"{json.dumps(shares)}\n".encode())
    try:
        kept = json.loads(path.read_text(encoding="ascii"))
    except ValueError:
        kept = None
    if kept != list(shares):
        raise TrainingError(
            f"{path} states the shares {kept}, and {list(shares)} are asked for: patients would "
            "move out of the locked holdout into training; keep the shares of this site."
        )


def split_of(patient: str, key: bytes, shares: tuple[float, ...] = SHARES) -> str:
    """Return which of `SPLITS` a patient belongs to.

    Parameters
    ----------
    patient : str
        The patient's pseudonym.
    key : bytes
        Of the site, see `open_key`.
    shares : tuple of 4 floats
        Of the patients, in the order of `SPLITS`; they add up to 1.
    """
    edges = _edges(shares)
    digest = hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()
    bucket = int(digest[:8], 16) % _BUCKETS
    return SPLITS[int(np.searchsorted(edges, bucket, side="right"))]


def split_slices(
    slices: Slices, key: bytes, shares: tuple[float, ...] = SHARES
) -> Mapping[str, Slices]:
    """Return the slices of each split; one may be empty where there are few patients."""
    patients = {patient: split_of(patient, key, shares) for patient in set(slices.table["patient"])}
    belongs = slices.table["patient"].map(patients).to_numpy()
    return {name: slices.where(belongs == name) for name in SPLITS}


def twenty_percent_by_patient(slices: Slices, seed: int) -> tuple[Slices, Slices]:
    """Return the paper's split, training and validation: a random fifth, but of the patients.

    The paper draws slices, which puts neighbours of one bleed on both sides.

    Raises
    ------
    TrainingError
        When there are fewer than two patients.
    """
    patients = sorted(set(slices.table["patient"]))
    if len(patients) < 2:
        raise TrainingError("There is one patient at most, which cannot be divided; add more.")
    shuffled = np.random.default_rng(seed).permutation(np.asarray(patients, dtype=object))
    validation = set(shuffled[: max(1, round(0.2 * len(patients)))].tolist())
    return slices.of_patients(set(patients) - validation), slices.of_patients(validation)


def shared_patients(parts: Iterable[Slices]) -> set[str]:
    """Return the patients that are in more than one of the parts; there must be none."""
    seen: set[str] = set()
    twice: set[str] = set()
    for part in parts:
        patients = set(part.table["patient"])
        twice |= seen & patients
        seen |= patients
    return twice


def _edges(shares: tuple[float, ...]) -> list[int]:
    if len(shares) != len(SPLITS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError("shares are four parts of 1")
    return [round(_BUCKETS * sum(shares[:count])) for count in range(1, len(shares))]
