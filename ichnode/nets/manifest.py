"""What a bundle says of itself, without torch; `ichnode.nets.manifest_file` reads and checks it.

The model UID is a digest over all of it, the weights' digests included, because a new threshold is
a new model. Card, metrics and measurements lie beside the bundle and are not part of it.

A field that may be None is left out where it is: what came later changes no older bundle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ichnode.domain.findings import Label
from ichnode.domain.ids import result_uid

FORMAT = 1
FILE = "bundle.json"
CARD = "MODEL_CARD.md"
SLICE_ARCHITECTURES = (
    "resnet18_local",
    "resnet18_mask",
    "compact_mask",
    "medium_mask",
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
MASK_ARCHITECTURES = ("resnet18_mask", "compact_mask", "medium_mask")
"""Those that draw where the blood is; see `ichnode.nets.mask_network`."""
CONTEXT_ARCHITECTURE = re.compile(r"bigru_([1-9]\d{0,3})x([1-4])")
"""What `ichnode.nets.context` can build: ``bigru_<hidden>x<layers>``."""


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
    return json.dumps(stated(thing), sort_keys=True, separators=(",", ":"), allow_nan=False)


def stated(thing: Any) -> Any:
    """Return a dataclass as plain values, without the fields that are None by default and are."""
    if isinstance(thing, tuple | list):
        return [stated(item) for item in thing]
    if isinstance(thing, Mapping):
        return {key: stated(value) for key, value in thing.items()}
    if not dataclasses.is_dataclass(thing):
        return thing
    values = ((field, getattr(thing, field.name)) for field in dataclasses.fields(thing))
    return {
        field.name: stated(value)
        for field, value in values
        if not (value is None and field.default is None)
    }
