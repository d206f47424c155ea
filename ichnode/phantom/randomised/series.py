"""One simulated series: maps in, Hounsfield units and the truth of every voxel out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ichnode.domain.findings import LABELS, Label
from ichnode.phantom.randomised.bleeds import (
    KINDS,
    draw_bleeds,
    draw_kinds,
    draw_masses,
    paint_bleed,
    push,
)
from ichnode.phantom.randomised.maps import AnatomyMaps
from ichnode.phantom.randomised.mimics import paint_diseases, paint_interventions, paint_normal
from ichnode.phantom.randomised.realism import WHOLE, Realism
from ichnode.phantom.randomised.scanner import blur, expose
from ichnode.phantom.randomised.space import Geometry, draw_geometry, draw_space
from ichnode.phantom.randomised.tissue import Head, draw_head

SEEN_HU = 5.0  # blood that stands out by less is not seen
SEEN_MM2, HINTED_MM2 = 14.0, 5.0
FILLED = 0.25  # of a pixel: less of it is no blood
SEEN_RATIO = 12.0  # contrast over noise, times the root of the area in mm2


@dataclass(frozen=True, slots=True, eq=False)
class RandomisedSeries:
    """A simulated series and its truth.

    Attributes
    ----------
    hu : ndarray, int16, (z, y, x)
        From the feet upwards, row 0 in front.
    kinds : ndarray, uint8, (z, y, x)
        0, or the index of the kind in ``LABELS``, where blood can be seen.
    labels : ndarray, float32, (z, 6)
        1 where a slice shows it, 0 where there is none, NaN where there is some that hardly shows.
    volumes_ml : dict
        Of each kind, by the fraction of each voxel that it fills, seen or not.
    """

    hu: npt.NDArray[np.int16] = field(repr=False)
    kinds: npt.NDArray[np.uint8] = field(repr=False)
    labels: npt.NDArray[np.float32] = field(repr=False)
    geometry: Geometry
    volumes_ml: dict[Label, float]
    seed: int


@dataclass(slots=True)
class Stages:
    """Chance for one stage after the other: what one of them draws changes nothing in the next.

    So the heads of one seed with and without a bleed differ by the bleed.
    """

    seed: int
    chance: torch.Generator
    done: int = 0

    def next(self) -> np.random.Generator:
        """Begin a stage: return what its numbers are drawn from, and set `chance` for fields."""
        self.done += 1
        self.chance.manual_seed(64 * self.seed + self.done)
        return np.random.default_rng((self.seed, 31, self.done))


def simulate_series(
    maps: AnatomyMaps,
    seed: int,
    *,
    size_px: int = 192,
    kinds: Sequence[Label] | None = None,
    realism: Realism = WHOLE,
) -> RandomisedSeries:
    """Simulate a series; on one kind of device the same arguments give the same series.

    Parameters
    ----------
    maps : AnatomyMaps
        On the device to work on.
    kinds : sequence of Label, optional
        What to bleed; by default the seed decides, and leaves half of the heads without.
    realism : Realism
        Which stages are at work; what it switches off changes nothing that others draw.
    """
    stages = Stages(seed, torch.Generator(maps.maps.device))
    rng = stages.next()
    geometry = draw_geometry(rng, size_px)
    space = draw_space(rng, stages.chance, geometry)
    rng = stages.next()
    drawn = draw_bleeds(rng, maps, draw_kinds(rng) if kinds is None else kinds)
    tissue = push(space, draw_masses(stages.next(), maps, drawn))
    head = draw_head(stages.next(), maps, space, tissue)
    distracted = head if realism.distractors else head.spare()
    paint_normal(stages.next(), distracted)
    paint_diseases(stages.next(), maps, distracted)
    rng = stages.next()
    painted = [(bleed.kind, *paint_bleed(rng, head, bleed)) for bleed in drawn]
    rng = stages.next()
    paint_interventions(rng, maps, distracted)
    bone_hu = rng.uniform(500, 1500) + 250 * space.fields.draw(9.0, 4.5) * head.base
    hu = head.hu + (bone_hu - head.hu) * head.bone
    merged = [space.merge(part) for part in (hu, head.bone, head.inside, head.body)]
    image, noise_hu = expose(stages.next(), stages.chance, geometry, *merged, realism=realism)
    return true_labels(head, painted, image, merged[1], noise_hu, seed, realism)


def true_labels(
    head: Head,
    painted: Sequence[tuple[Label, Tensor, Tensor]],
    image: Tensor,
    bone: Tensor,
    noise_hu: float,
    seed: int,
    realism: Realism = WHOLE,
) -> RandomisedSeries:
    """Return images (slice, y, x) together with what can be seen in them of the bleeds painted.

    Parameters
    ----------
    painted : sequence of (Label, Tensor, Tensor)
        Kind, amount and lift in HU of each bleed; see `paint_bleed`.
    bone : Tensor, float32, (slice, y, x)
    noise_hu : float
        Standard deviation.
    realism : Realism
        Whether the labels are of what can be seen.
    """
    geometry = head.space.geometry
    amounts = {kind: torch.zeros_like(image) for kind in KINDS}
    lifts = {kind: torch.zeros_like(image) for kind in KINDS}
    left = 1 - head.bone
    for kind, amount, lift in painted:
        amounts[kind] = torch.maximum(amounts[kind], head.space.merge(amount * left))
        lifts[kind] = torch.maximum(lifts[kind], head.space.merge(lift * left))
    if realism.visibility:
        labels, shown = _seen(geometry, amounts, lifts, bone, noise_hu)
    else:
        labels, shown = _there(amounts)
    voxel_ml = geometry.pixel_mm**2 * geometry.step_mm / 1000
    return RandomisedSeries(
        hu=image.round().clamp(-1024, 3071).to(torch.int16).cpu().numpy(),
        kinds=shown.cpu().numpy(),
        labels=labels,
        geometry=geometry,
        volumes_ml={kind: float(amounts[kind].sum()) * voxel_ml for kind, *_ in painted},
        seed=seed,
    )


def _seen(
    geometry: Geometry,
    amounts: dict[Label, Tensor],
    lifts: dict[Label, Tensor],
    bone: Tensor,
    noise_hu: float,
) -> tuple[npt.NDArray[np.float32], Tensor]:
    """Return labels (slice, label) and kinds (slice, y, x): of blood that can be seen."""
    wide = 1 + 2 * max(1, round(1.2 / geometry.pixel_mm))
    hidden = functional.max_pool2d((bone > 0.3).float()[:, None], wide, 1, wide // 2)[:, 0] > 0
    pixel_mm2 = geometry.pixel_mm**2
    labels = np.zeros((geometry.slices, len(LABELS)), np.float32)
    shown = torch.zeros_like(bone, dtype=torch.uint8)
    for kind in KINDS:
        index = LABELS.index(kind)
        lift = blur(lifts[kind], 0.6)
        seen = (lift > SEEN_HU) & ~hidden & (amounts[kind] > FILLED)
        area = seen.sum(dim=(1, 2)) * pixel_mm2
        contrast = (lift * seen).sum(dim=(1, 2)) * pixel_mm2 / area.clamp(min=1e-6)
        ratio = contrast / max(noise_hu, 1.5) * area.sqrt()
        plain = ((area >= SEEN_MM2) & (ratio >= SEEN_RATIO)).cpu().numpy()
        hint = ((lift > 2.0) & (amounts[kind] > 0.1)).sum(dim=(1, 2)) * pixel_mm2
        labels[:, index] = np.where(
            plain, 1, np.where((hint > HINTED_MM2).cpu().numpy(), np.nan, 0)
        )
        shown = torch.where(seen & (shown == 0), index, shown).to(torch.uint8)
    any_ = np.where(
        (labels[:, 1:] == 1).any(axis=1), 1, np.where(np.isnan(labels).any(axis=1), np.nan, 0)
    )
    labels[:, 0] = any_
    return labels, shown


def _there(amounts: dict[Label, Tensor]) -> tuple[npt.NDArray[np.float32], Tensor]:
    """Return labels (slice, label) and kinds (slice, y, x): of all blood, seen or not."""
    first = amounts[KINDS[0]]
    labels = np.zeros((len(first), len(LABELS)), np.float32)
    shown = torch.zeros_like(first, dtype=torch.uint8)
    for kind in KINDS:
        index, filled = LABELS.index(kind), amounts[kind] > FILLED
        labels[:, index] = filled.any(dim=2).any(dim=1).cpu().numpy()
        shown = torch.where(filled & (shown == 0), index, shown).to(torch.uint8)
    labels[:, 0] = labels[:, 1:].max(axis=1)
    return labels, shown
