"""What a bundle says of itself: ``bundle.json``, read strictly and without torch.

The model UID is a digest over all of it, the weights' digests included, because a new threshold is
a new model. Card, metrics and measurements lie beside the bundle and are not part of it.

A field that may be None is left out where it is: what came later changes no older bundle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ichnode.domain.errors import ModelUnusable
from ichnode.domain.findings import LABELS, Label
from ichnode.domain.ids import result_uid

FORMAT = 1
FILE = "bundle.json"
CARD = "MODEL_CARD.md"
SLICE_ARCHITECTURES = (
    "resnet18_local",
    "resnet18_mask",
    "compact_mask",
    "resnet18",
    "resnet50",
    "resnet101",
    "densenet121",
    "alexnet",
    "efficientnet_v2_s",
    "convnext_tiny",
    "resnet18_concat",
    "resnet50_concat",
    "resnet101_concat",
    "densenet121_concat",
    "alexnet_concat",
)
"""What `ichnode.nets.architectures` can build."""
MASK_ARCHITECTURES = ("resnet18_mask", "compact_mask")
"""Those that draw where the blood is; see `ichnode.nets.mask_network`."""
CONTEXT_ARCHITECTURE = re.compile(r"bigru_([1-9]\d{0,3})x([1-4])")
"""What `ichnode.nets.context` can build: ``bigru_<hidden>x<layers>``."""
_LARGEST_MANIFEST = 1 << 20
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How a series becomes the network's input; see `ichnode.nets.preprocess`."""

    size_px: int
    windows_hu: tuple[tuple[float, float], ...]  # (low, high), shown as 0 to 1
    context_slices: int = 1  # on either side; 1 is the 2.5-D input of three slices
    crop: Literal["head", "middle"] = "head"
    crop_margin: float = 0.04  # of the head's extent, on every side
    slab_below_mm: float = 3.0  # slices closer than this are averaged ...
    slab_target_mm: float = 5.0  # ... to about this
    gap_ratio: float = 1.5  # a step above so many usual ones is a missing slice

    @property
    def channels(self) -> int:
        """How many channels the input has."""
        return len(self.windows_hu) * (2 * self.context_slices + 1)


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """One network of a bundle."""

    role: Literal["joint", "hemorrhage", "subtypes", "context"]
    architecture: str
    labels: tuple[Label, ...]  # what its outputs are
    weights: str  # file name
    sha256: str  # of that file


@dataclass(frozen=True, slots=True)
class Calibration:
    """From logits to probabilities: ``sigmoid(logit / temperature + bias)`` for each label.

    A series' logit is the highest mean of two adjacent slices (``adjacent_mean``), the highest
    slice (``max``) or a smooth maximum (``log_sum_exp``). Where there is a context network, that
    logit is blended with the network's own before.
    """

    slice_temperature: tuple[float, ...]
    slice_bias: tuple[float, ...]
    series_temperature: tuple[float, ...]
    series_bias: tuple[float, ...]
    series_rule: Literal["adjacent_mean", "max", "log_sum_exp"]
    how: str


@dataclass(frozen=True, slots=True)
class ContextSpec:
    """How far the context network is believed: ``(1 - a) * own + a * context``, for each label."""

    slice_blend: tuple[float, ...]  # a, of a slice's logit
    series_blend: tuple[float, ...]  # likewise of the series'


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """How areas of blood become millilitres, how far off that was, and what is stated of it.

    A volume is the sum of area times extent over the slices, times the scale of its label. The
    errors are of "any" in the series that the scale was chosen on, each judged by a scale that it
    had no part in. What was measured on series that nothing was chosen on lies beside the bundle.
    """

    scale: tuple[float, ...]  # per label
    contour: float  # probability of blood at the edge that is drawn
    series: int  # with blood whose volume was known
    mean_absolute_error_ml: float
    median_relative_error: float  # of those of more than 1 ml
    limits_ml: tuple[float, float]  # 95 % limits of agreement, estimate less truth
    shown: tuple[Label, ...]  # labels whose volume goes into reports; none: it stays inside
    how: str  # the method, and whether the truth was simulated


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a series is called what, as calibrated series probabilities."""

    urgent: tuple[float, ...]  # per label: at or above it is present
    review: float  # of "any": at or above it (and below urgent) it cannot be excluded
    how: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the weights come from."""

    data: str
    licence: str
    code_version: str
    recipe: str  # the training recipe, as canonical JSON
    created: str  # date, ISO 8601
    restrictions: str | None = None  # "non-commercial: ...", where terms restrict the use


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A made-up input and the logits that it must give, checked whenever the bundle is loaded."""

    recipe: Literal["discs-1"]  # see `ichnode.nets.selftest`
    expected: tuple[tuple[float, ...], ...]  # (slice, label)
    tolerance_full: float  # greatest difference of a logit at full precision
    tolerance_reduced: float  # likewise in bfloat16 or float16
    expected_series: tuple[float, ...] | None = None  # of the series, where there is a context


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that ``bundle.json`` holds, but for the UID that follows from it."""

    format: int
    name: str
    version: str
    labels: tuple[Label, ...]
    networks: tuple[NetworkSpec, ...]
    preprocess: PreprocessSpec
    calibration: Calibration
    thresholds: Thresholds
    provenance: Provenance
    self_test: SelfTest
    context: ContextSpec | None = None
    volume: VolumeSpec | None = None

    @property
    def model_uid(self) -> str:
        """The UID of exactly this model."""
        return result_uid("model", hashlib.sha256(canonical(self).encode()).hexdigest())


def canonical(thing: Any) -> str:
    """Return the one JSON text of a dataclass: keys sorted, no white space, absent for None."""
    return json.dumps(_stated(thing), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _stated(thing: Any) -> Any:
    """Return a dataclass as plain values, without the fields that are None by default and are."""
    if isinstance(thing, tuple | list):
        return [_stated(item) for item in thing]
    if isinstance(thing, Mapping):
        return {key: _stated(value) for key, value in thing.items()}
    if not dataclasses.is_dataclass(thing):
        return thing
    values = ((field, getattr(thing, field.name)) for field in dataclasses.fields(thing))
    return {
        field.name: _stated(value)
        for field, value in values
        if not (value is None and field.default is None)
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``bundle.json`` into a folder."""
    _check(manifest)
    content = {"model_uid": manifest.model_uid, **_stated(manifest)}
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
        stated = content.pop("model_uid", None)
        manifest = _build(Manifest, content)
        _check(manifest)
        _know_architectures(folder, manifest)
    except OSError as error:
        raise ModelUnusable(f"There is no readable {FILE} in {folder}.") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelUnusable(f"{FILE} of the model {folder.name} is damaged: {error}.") from error
    if stated != manifest.model_uid:
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
    stated = {network.role: network.labels for network in networks}
    return len(stated) == len(networks) and stated in (
        {"joint": LABELS},
        {"hemorrhage": LABELS[:1], "subtypes": LABELS[1:]},
        {"joint": LABELS, "context": LABELS},
    )
