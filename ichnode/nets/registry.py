"""The registry: a folder of bundles and ``aliases.json``. Plain files; no torch.

``aliases.json`` says which bundle is champion (it runs), previous and challenger. It is replaced in
one step, so that a reader sees the old choice or the new one. Where a folder holds no champion, the
bundle that ships with ichnode is it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ichnode.domain.errors import ModelUnusable
from ichnode.domain.ids import is_strict_uid
from ichnode.nets.manifest import CARD, FILE, Manifest, read_manifest, verify_weights
from ichnode.spool import make_folder, sync_folder, write_durable

Alias = Literal["champion", "previous", "challenger"]
ALIASES: tuple[Alias, ...] = get_args(Alias)
SHIPPED = Path(__file__).parent / "shipped"
_ALIAS_FILE = "aliases.json"
_LARGEST_ALIASES = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundle of the registry."""

    folder: Path
    manifest: Manifest
    alias: str = ""  # "" for none

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
        }

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
        aliases = self._aliases()
        if which == "champion" and "champion" not in aliases:
            return self._shipped_entry("champion")
        uid = aliases.get(which, which)
        alias = next((name for name, named in aliases.items() if named == uid), "")
        if is_strict_uid(uid):
            if (self._folder / uid / FILE).is_file():
                return self._entry(self._folder / uid, uid, alias)
            shipped = self._shipped_entry(alias)
            if shipped.model_uid == uid:
                return shipped
        raise ModelUnusable(
            f"The registry {self._folder} has no model {which[:64]!r}; "
            "`ichnode models list` shows what there is."
        )

    def entries(self) -> list[Entry]:
        """Return every bundle, the champion first, the shipped one included."""
        aliases = {uid: name for name, uid in self._aliases().items()}
        found = [
            self._entry(folder, folder.name, aliases.get(folder.name, ""))
            for folder in sorted(self._folder.glob(f"*/{FILE}"))
            for folder in (folder.parent,)
            if is_strict_uid(folder.name)
        ]
        if "champion" in aliases.values():
            shipped = self._shipped_entry("")
            alias = aliases.get(shipped.model_uid, "shipped")
        else:
            shipped, alias = self._shipped_entry("champion"), "champion"
        if shipped.model_uid not in {entry.model_uid for entry in found}:
            found.append(Entry(shipped.folder, shipped.manifest, alias))
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

    def promote(self, model_uid: str) -> None:
        """Make an installed model the champion; the one that ran becomes ``previous``.

        Raises
        ------
        ModelUnusable
            When it is not there or damaged: the champion then stays as it was.
        """
        entry = self.find(model_uid)
        entry.verify()
        with self._locked():
            aliases = dict(self._aliases())
            before = aliases.get("champion") or self._shipped_uid()
            if before == entry.model_uid and "champion" in aliases:
                return
            aliases["champion"] = entry.model_uid
            if before and before != entry.model_uid:
                aliases["previous"] = before
            if aliases.get("challenger") == entry.model_uid:
                del aliases["challenger"]
            self._write(aliases)

    def challenge(self, model_uid: str) -> None:
        """Name an installed model the challenger.

        Raises
        ------
        ModelUnusable
            When it is not there or damaged.
        """
        entry = self.find(model_uid)
        entry.verify()
        with self._locked():
            self._write({**self._aliases(), "challenger": entry.model_uid})

    def _write(self, aliases: Mapping[str, str]) -> None:
        text = json.dumps(dict(aliases), indent=1, sort_keys=True)
        write_durable(self._folder / _ALIAS_FILE, f"{text}\n".encode())

    def _aliases(self) -> Mapping[str, str]:
        try:
            raw = (self._folder / _ALIAS_FILE).read_bytes()[:_LARGEST_ALIASES]
            content = json.loads(raw)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ModelUnusable(f"{_ALIAS_FILE} of the registry cannot be read.") from error
        if not isinstance(content, dict) or not all(
            name in ALIASES and isinstance(uid, str) and is_strict_uid(uid)
            for name, uid in content.items()
        ):
            raise ModelUnusable(f"{_ALIAS_FILE} of the registry is damaged.")
        return content

    def _entry(self, folder: Path, uid: str, alias: str) -> Entry:
        manifest = read_manifest(folder)
        if manifest.model_uid != uid:
            raise ModelUnusable(f"The folder {folder.name} of the registry holds another model.")
        return Entry(folder, manifest, alias)

    def _shipped_entry(self, alias: str) -> Entry:
        folders = sorted(path.parent for path in self._shipped.glob(f"*/{FILE}"))
        if len(folders) != 1:
            raise ModelUnusable("No model was shipped with this installation; install one.")
        return Entry(folders[0], read_manifest(folders[0]), alias)

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


def _copy(bundle: Path, target: Path, manifest: Manifest) -> None:
    names = [FILE, *(network.weights for network in manifest.networks)]
    names += [name for name in (CARD, "metrics.json") if (bundle / name).is_file()]
    for name in names:
        with (bundle / name).open("rb") as source:
            write_durable(target / name, iter(lambda: source.read(1 << 20), b""))
