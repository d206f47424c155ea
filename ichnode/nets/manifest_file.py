"""``bundle.json`` as a file: read strictly, checked as a whole, without torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from ichnode.domain.errors import ModelUnusable
from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import (
    CONTEXT_ARCHITECTURE,
    FILE,
    FORMAT,
    MASK_ARCHITECTURES,
    SLICE_ARCHITECTURES,
    Manifest,
    NetworkSpec,
    VolumeSpec,
    stated,
)

_LARGEST_MANIFEST = 1 << 20
_T = TypeVar("_T")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``bundle.json`` into a folder."""
    _check(manifest)
    content = {"model_uid": manifest.model_uid, **stated(manifest)}
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read ``bundle.json`` and check that it is what its UID says; weights are not looked at.

    Raises
    ------
    ModelUnusable
        When it is missing, altered, of another format, or has a field or an architecture that we
        do not know.
    """
    try:
        raw = (folder / FILE).read_bytes()
        if len(raw) > _LARGEST_MANIFEST:
            raise ModelUnusable(f"{FILE} of the model {folder.name} is too large to be one.")
        content = json.loads(raw)
        if not isinstance(content, dict):
            raise TypeError("not an object")
        if content.get("format") != FORMAT:
            raise ModelUnusable(
                f"The model {folder.name} is of format {str(content.get('format'))[:8]}; this "
                f"version reads format {FORMAT}."
            )
        stated_uid = content.pop("model_uid", None)
        manifest = _build(Manifest, content)
        _check(manifest)
        _know_architectures(folder, manifest)
    except OSError as error:
        raise ModelUnusable(f"There is no readable {FILE} in {folder}.") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelUnusable(f"{FILE} of the model {folder.name} is damaged: {error}.") from error
    if stated_uid != manifest.model_uid:
        raise ModelUnusable(f"{FILE} of the model {folder.name} was altered: its UID is another.")
    return manifest


def _know_architectures(folder: Path, manifest: Manifest) -> None:
    for network in manifest.networks:
        if network.role == "context":
            known = CONTEXT_ARCHITECTURE.fullmatch(network.architecture) is not None
        else:
            known = network.architecture in SLICE_ARCHITECTURES
        if not known:
            raise ModelUnusable(
                f"The model {folder.name} needs the architecture {network.architecture[:40]!r} as "
                f"its {network.role} network, which this version does not have."
            )


def verify_weights(folder: Path, manifest: Manifest) -> None:
    """Check that the weights are the ones that the manifest names.

    Raises
    ------
    ModelUnusable
        When a file is missing or another.
    """
    for network in manifest.networks:
        if weights_digest(folder / network.weights) != network.sha256:
            raise ModelUnusable(f"The weights of the model {folder.name} are damaged or others.")


def weights_digest(path: Path) -> str:
    """Return the sha256 of a file.

    Raises
    ------
    ModelUnusable
        When it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelUnusable(f"The weights {path.name} cannot be read.") from error


def _build(kind: type[_T], content: Any) -> _T:
    """Make a dataclass from JSON; every field must be there, known and of its type.

    Only a field that is None by default may be absent, and null is no value of it.
    """
    if not isinstance(content, Mapping):
        raise TypeError(f"{kind.__name__} is not an object")
    hints = typing.get_type_hints(kind)
    if unknown := sorted(set(content) - set(hints)):
        raise ValueError(f"unknown field {unknown[0]}")
    fields = dataclasses.fields(typing.cast(Any, kind))
    optional = {field.name for field in fields if field.default is None}
    if missing := sorted(set(hints) - set(content) - optional):
        raise ValueError(f"field {missing[0]} is missing")
    return kind(**{name: _value(hints[name], value, name) for name, value in content.items()})


def _value(hint: Any, content: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, types.UnionType):  # something or None; None is absent
        return _value(arguments[0], content, name)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), content)
    if origin is Literal:
        if content not in arguments:
            raise ValueError(f"{name} is none of {', '.join(map(str, arguments))}")
        return content
    if origin is tuple:
        return _items(arguments, content, name)
    if hint is float and isinstance(content, int | float) and not isinstance(content, bool):
        if not math.isfinite(content):
            raise ValueError(f"{name} is not finite")
        return float(content)
    if type(content) is not hint:
        raise TypeError(f"{name} is not of type {hint}")
    return content


def _items(arguments: tuple[Any, ...], content: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(content, list):
        raise TypeError(f"{name} is not a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_value(arguments[0], item, name) for item in content)
    if len(content) != len(arguments):
        raise ValueError(f"{name} has not {len(arguments)} items")
    return tuple(_value(a, item, name) for a, item in zip(arguments, content, strict=True))


def _check(manifest: Manifest) -> None:
    """Refuse what fits the form and makes no sense."""
    spec, calibration = manifest.preprocess, manifest.calibration
    per_label = (
        calibration.slice_temperature,
        calibration.slice_bias,
        calibration.series_temperature,
        calibration.series_bias,
        manifest.thresholds.urgent,
        *manifest.self_test.expected,
        *_of_context(manifest),
        *(() if manifest.volume is None else (manifest.volume.scale,)),
    )
    rules = {
        "the order of labels is not ours": manifest.labels == LABELS,
        "a list has not one value per label": all(len(v) == len(LABELS) for v in per_label),
        "a temperature is not positive": min(
            (*calibration.slice_temperature, *calibration.series_temperature), default=0
        )
        > 0,
        "a threshold is no probability": all(
            0 < t < 1 for t in (*manifest.thresholds.urgent, manifest.thresholds.review)
        ),
        "the review threshold is above the urgent one": manifest.thresholds.review
        <= manifest.thresholds.urgent[0],
        "the networks do not belong together": _roles(manifest.networks),
        "a weights file has a path in its name": all(
            Path(n.weights).name == n.weights and n.weights.endswith(".safetensors")
            for n in manifest.networks
        ),
        "the input is of no sensible size": 32 <= spec.size_px <= 1024
        and 0 <= spec.context_slices <= 4
        and 0 < len(spec.windows_hu) <= 8
        and all(low < high for low, high in spec.windows_hu),
        "the slabs make no sense": 0 <= spec.slab_below_mm <= spec.slab_target_mm
        and spec.gap_ratio > 1
        and 0 <= spec.crop_margin < 1,
        "there is no self-test": len(manifest.self_test.expected) > 0,
        "a context network without its blend and expected series, or one of them without it": {
            manifest.context is not None,
            manifest.self_test.expected_series is not None,
        }
        == {any(network.role == "context" for network in manifest.networks)},
        "the volume makes no sense": manifest.volume is None or _sound(manifest, manifest.volume),
        "a blend is no share": manifest.context is None
        or all(
            0 <= a <= 1 for a in (*manifest.context.slice_blend, *manifest.context.series_blend)
        ),
    }
    for sentence, kept in rules.items():
        if not kept:
            raise ValueError(sentence)


def _of_context(manifest: Manifest) -> tuple[tuple[float, ...], ...]:
    series = manifest.self_test.expected_series
    blends = () if manifest.context is None else dataclasses.astuple(manifest.context)
    return (*blends, *(() if series is None else (series,)))


def _sound(manifest: Manifest, volume: VolumeSpec) -> bool:
    drawing = {n.role for n in manifest.networks if n.architecture in MASK_ARCHITECTURES}
    in_order = tuple(label for label in LABELS if label in volume.shown) == volume.shown
    return (
        "joint" in drawing
        and all(scale > 0 for scale in volume.scale)
        and 0 < volume.contour < 1
        and in_order
        and volume.shown[:1] in ((), LABELS[:1])  # a kind is a part of any blood
        and bool(volume.how.strip())  # it goes into reports
    )


def _roles(networks: tuple[NetworkSpec, ...]) -> bool:
    answers = {network.role: network.labels for network in networks}
    return len(answers) == len(networks) and answers in (
        {"joint": LABELS},
        {"hemorrhage": LABELS[:1], "subtypes": LABELS[1:]},
        {"joint": LABELS, "context": LABELS},
    )
