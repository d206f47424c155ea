"""The registry: a folder of bundles and ``aliases.json``. Plain files; no torch.

``aliases.json`` says which bundle is champion (it runs), previous and challenger, and under
``since`` who made it so, when and why. It is replaced in one step, so that a reader sees the old
choice or the new one, each with its reason. Where a folder holds no champion, the bundle that ships
with ichnode is it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from ichnode.domain.errors import ModelUnusable
from ichnode.domain.ids import is_strict_uid
from ichnode.nets.manifest import CARD, FILE, Manifest
from ichnode.nets.manifest_file import read_manifest, verify_weights
from ichnode.spool import make_folder, sync_folder, write_durable

Alias = Literal["champion", "previous", "challenger"]
ALIASES: tuple[Alias, ...] = get_args(Alias)
SHIPPED = Path(__file__).parent / "shipped"
GATES = "gates.json"
"""What the gates of a retraining said of a candidate, beside its bundle."""
MEASUREMENTS = "measurements.jsonl"
"""The ledger of what was measured with a bundle, beside it."""
BESIDE = (
    CARD, "metrics.json", MEASUREMENTS, GATES, "retrain-report.html", "retrain-report.json",
)  # fmt: skip
"""What lies beside a bundle and is no part of it."""
_ALIAS_FILE = "aliases.json"
_LARGEST_ALIASES = 1 << 16
_NON_COMMERCIAL = re.compile(r"non-?commercial|\bNC\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Standing:
    """Since when a model has an alias, who gave it, and why."""

    at: datetime
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Choice:
    """What ``aliases.json`` holds."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    since: Mapping[str, Standing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundle of the registry."""

    folder: Path
    manifest: Manifest
    alias: str = ""  # "" for none
    since: Standing | None = None  # None where nobody gave the alias

    @property
    def model_uid(self) -> str:
        """The UID of the model."""
        return self.manifest.model_uid

    def summary(self) -> dict[str, str]:
        """Return what a list shows of it."""
        return {
            "alias": self.alias,
            "name": self.manifest.name,
            "version": self.manifest.version,
            "model_uid": self.model_uid,
            "data": self.manifest.provenance.data,
            "licence": self.manifest.provenance.licence,
            "terms": "non-commercial" if self.non_commercial else "",
        }

    @property
    def non_commercial(self) -> bool:
        """Whether the terms of what it learned from rule out commercial use."""
        stated = self.manifest.provenance
        return bool(stated.restrictions or _NON_COMMERCIAL.search(stated.licence))

    def gates(self) -> dict[str, Any] | None:
        """Return what the gates of a retraining said, or None where it went through none.

        Raises
        ------
        ModelUnusable
            When the file cannot be understood.
        """
        try:
            content = json.loads((self.folder / GATES).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ModelUnusable(f"{GATES} of the model {self.model_uid} is damaged.") from error
        if not isinstance(content, dict) or not isinstance(content.get("gates"), list):
            raise ModelUnusable(f"{GATES} of the model {self.model_uid} is damaged.")
        return content

    def verify(self) -> None:
        """Check that the weights are whole and unaltered.

        Raises
        ------
        ModelUnusable
            When they are not.
        """
        verify_weights(self.folder, self.manifest)

    def card(self) -> str:
        """Return the model card as Markdown; a sentence where the bundle has none."""
        try:
            return (self.folder / CARD).read_text(encoding="utf-8")
        except OSError:
            return f"The model {self.manifest.name} {self.manifest.version} has no card.\n"


class Registry:
    """The models of a node.

    Parameters
    ----------
    folder : Path
        Where installed bundles are; it need not exist.
    shipped : Path
        Where the bundle that comes with ichnode is.
    """

    def __init__(self, folder: Path, shipped: Path = SHIPPED) -> None:
        self._folder, self._shipped = folder, shipped

    @property
    def stamp(self) -> tuple[int, int, int] | None:
        """What changes whenever an alias does; None while there are no aliases. Cheap to ask."""
        try:
            found = (self._folder / _ALIAS_FILE).stat()
        except FileNotFoundError:
            return None
        return (found.st_mtime_ns, found.st_ino, found.st_size)

    def champion(self) -> Path:
        """Return the folder of the model that runs.

        Raises
        ------
        ModelUnusable
            When the champion is missing or damaged; no other model takes its place by itself.
        """
        return self.find("champion").folder

    def find(self, which: str) -> Entry:
        """Return a bundle by alias or model UID.

        Raises
        ------
        ModelUnusable
            When there is no such bundle, or it is damaged.
        """
        choice = self._choice()
        if which == "champion" and "champion" not in choice.aliases:
            return self._shipped_entry("champion")
        uid = choice.aliases.get(which, which)
        alias = next((name for name, named in choice.aliases.items() if named == uid), "")
        since = choice.since.get(alias)
        if is_strict_uid(uid):
            if (self._folder / uid / FILE).is_file():
                return self._entry(self._folder / uid, uid, alias, since)
            shipped = self._shipped_entry(alias, since)
            if shipped.model_uid == uid:
                return shipped
        raise ModelUnusable(
            f"The registry {self._folder} has no model {which[:64]!r}; "
            "`ichnode models list` shows what there is."
        )

    def challenger(self) -> Entry | None:
        """Return the challenger, or None when there is none.

        Raises
        ------
        ModelUnusable
            When it is missing or damaged.
        """
        return self.find("challenger") if "challenger" in self._choice().aliases else None

    def entries(self) -> list[Entry]:
        """Return every bundle, the champion first, the shipped one included."""
        choice = self._choice()
        names = {uid: name for name, uid in choice.aliases.items()}
        found = [
            self._entry(
                folder,
                folder.name,
                names.get(folder.name, ""),
                choice.since.get(names.get(folder.name, "")),
            )
            for folder in sorted(path.parent for path in self._folder.glob(f"*/{FILE}"))
            if is_strict_uid(folder.name)
        ]
        shipped = self._shipped_entry("")
        unnamed = "shipped" if "champion" in choice.aliases else "champion"
        alias = names.get(shipped.model_uid, unnamed)
        if shipped.model_uid not in {entry.model_uid for entry in found}:
            found.append(Entry(shipped.folder, shipped.manifest, alias, choice.since.get(alias)))
        order: dict[str, int] = {name: rank for rank, name in enumerate(ALIASES)}
        return sorted(found, key=lambda e: (order.get(e.alias, len(order)), e.model_uid))

    def install(self, bundle: Path) -> str:
        """Copy a bundle into the registry and return its model UID; it does not run by that.

        Installing the same bundle again changes nothing.

        Raises
        ------
        ModelUnusable
            When the bundle is damaged.
        """
        manifest = read_manifest(bundle)
        verify_weights(bundle, manifest)
        with self._locked():
            target = self._folder / manifest.model_uid
            if not target.is_dir():
                aside = self._folder / f".{manifest.model_uid}.{os.getpid()}.part"
                shutil.rmtree(aside, ignore_errors=True)
                _copy(bundle, aside, manifest)
                aside.rename(target)
                sync_folder(self._folder)
        return manifest.model_uid

    def promote(self, model_uid: str, *, by: str = "", reason: str = "") -> None:
        """Make an installed model the champion; the one that ran becomes ``previous``.

        Raises
        ------
        ModelUnusable
            When it is not there or damaged: the champion then stays as it was.
        """
        entry = self.find(model_uid)
        entry.verify()
        with self._locked():
            choice = self._choice()
            before = choice.aliases.get("champion") or self._shipped_uid()
            if before == entry.model_uid and "champion" in choice.aliases:
                return
            now = _now(by, reason)
            aliases, since = dict(choice.aliases), dict(choice.since)
            aliases["champion"], since["champion"] = entry.model_uid, now
            if before and before != entry.model_uid:
                aliases["previous"], since["previous"] = before, now
            if aliases.get("challenger") == entry.model_uid:
                del aliases["challenger"]
            self._write(_Choice(aliases, since))

    def rollback(self, *, by: str, reason: str) -> Entry:
        """Make the previous model the champion again and return it; in one step.

        There is no ``previous`` afterwards: a second rollback must not bring back what was just
        taken out of service. It stays installed.

        Raises
        ------
        ModelUnusable
            When there is no previous model or it is damaged: the champion then stays as it was.
        """
        with self._locked():
            choice = self._choice()
            if "previous" not in choice.aliases:
                raise ModelUnusable("There is no previous model to go back to.")
            entry = self.find("previous")
            entry.verify()
            aliases = {**choice.aliases, "champion": entry.model_uid}
            del aliases["previous"]
            self._write(_Choice(aliases, {**choice.since, "champion": _now(by, reason)}))
        return entry

    def challenge(self, model_uid: str, *, by: str = "", reason: str = "") -> None:
        """Name an installed model the challenger; naming it again changes nothing.

        Raises
        ------
        ModelUnusable
            When it is not there or damaged, or runs already.
        """
        entry = self.find(model_uid)
        entry.verify()
        with self._locked():
            choice = self._choice()
            if self.find("champion").model_uid == entry.model_uid:
                raise ModelUnusable(f"The model {entry.model_uid} is the champion already.")
            if choice.aliases.get("challenger") == entry.model_uid:
                return
            self._write(
                _Choice(
                    {**choice.aliases, "challenger": entry.model_uid},
                    {**choice.since, "challenger": _now(by, reason)},
                )
            )

    def _write(self, choice: _Choice) -> None:
        content: dict[str, Any] = dict(choice.aliases)
        content["since"] = {
            alias: asdict(standing) | {"at": standing.at.isoformat()}
            for alias, standing in choice.since.items()
            if alias in choice.aliases
        }
        text = json.dumps(content, indent=1, sort_keys=True)
        write_durable(self._folder / _ALIAS_FILE, f"{text}\n".encode())

    def _choice(self) -> _Choice:
        try:
            raw = (self._folder / _ALIAS_FILE).read_bytes()[:_LARGEST_ALIASES]
            content = json.loads(raw)
        except FileNotFoundError:
            return _Choice()
        except (OSError, ValueError) as error:
            raise ModelUnusable(f"{_ALIAS_FILE} of the registry cannot be read.") from error
        try:
            since = {alias: _standing(one) for alias, one in content.pop("since", {}).items()}
            sound = all(
                name in ALIASES and isinstance(uid, str) and is_strict_uid(uid)
                for name, uid in content.items()
            )
        except (AttributeError, TypeError, KeyError, ValueError):
            sound = False
        if not sound:
            raise ModelUnusable(f"{_ALIAS_FILE} of the registry is damaged.")
        return _Choice(content, since)

    def _entry(self, folder: Path, uid: str, alias: str, since: Standing | None = None) -> Entry:
        manifest = read_manifest(folder)
        if manifest.model_uid != uid:
            raise ModelUnusable(f"The folder {folder.name} of the registry holds another model.")
        return Entry(folder, manifest, alias, since)

    def _shipped_entry(self, alias: str, since: Standing | None = None) -> Entry:
        folder = shipped_bundle(self._shipped)
        return Entry(folder, read_manifest(folder), alias, since)

    def _shipped_uid(self) -> str:
        with contextlib.suppress(ModelUnusable):
            return self._shipped_entry("").model_uid
        return ""

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time change the registry."""
        make_folder(self._folder)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def shipped_bundle(shipped: Path = SHIPPED) -> Path:
    """Return the folder of the bundle that ships with ichnode.

    Raises
    ------
    ModelUnusable
        When there is none, or more than one.
    """
    folders = sorted(path.parent for path in shipped.glob(f"*/{FILE}"))
    if len(folders) != 1:
        raise ModelUnusable("No model was shipped with this installation; install one.")
    return folders[0]


def _copy(bundle: Path, target: Path, manifest: Manifest) -> None:
    names = [FILE, *(network.weights for network in manifest.networks)]
    names += [name for name in BESIDE if (bundle / name).is_file()]
    for name in names:
        with (bundle / name).open("rb") as source:
            write_durable(target / name, iter(lambda: source.read(1 << 20), b""))


def _now(by: str, reason: str) -> Standing:
    return Standing(datetime.now(UTC), by, reason)


def _standing(stated: Mapping[str, str]) -> Standing:
    return Standing(datetime.fromisoformat(stated["at"]), stated["by"], stated["reason"])
