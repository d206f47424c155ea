"""Where the points of a series lie in the head: acquisition geometry, pose, shape and bending."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ichnode.phantom.fields import log_uniform
from ichnode.phantom.randomised.noise import Fields

CENTRE_MM = (0.0, -16.0, 12.0)  # of the head, in the frame of the maps
FEET_MM, CROWN_MM = -62.0, 88.0  # where a head scan begins and ends, likewise


@dataclass(frozen=True, slots=True)
class Geometry:
    """The slices of one acquisition."""

    slices: int
    size_px: int
    pixel_mm: float
    step_mm: float
    thickness_mm: float
    parts: int  # planes a slice, for partial volume
    first_mm: float

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(z, y, x)."""
        return self.step_mm, self.pixel_mm, self.pixel_mm


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The points of a series.

    Attributes
    ----------
    x, y, z : Tensor, float32, (plane, row, column)
        In mm, in the frame of the maps: the place whose anatomy is seen there.
    down_mm : Tensor, float32, (1, row, 1)
        Distance behind the isocentre as the patient lies, for blood that settles.
    fields : Fields
        Random fields over these points.
    """

    geometry: Geometry
    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    z: Tensor = field(repr=False)
    down_mm: Tensor = field(repr=False)
    fields: Fields = field(repr=False)

    @property
    def points(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return x, y and z."""
        return self.x, self.y, self.z

    def planes_near(self, low_mm: float, high_mm: float) -> slice:
        """Return the planes that have points of such heights z; the others need no work."""
        lowest, highest = self.z.flatten(1).amin(dim=1), self.z.flatten(1).amax(dim=1)
        found = ((highest >= low_mm) & (lowest <= high_mm)).nonzero().flatten()
        if len(found) == 0:
            return slice(0, 0)
        return slice(int(found[0]), int(found[-1]) + 1)

    def moved(self, x: Tensor, y: Tensor, z: Tensor) -> Space:
        """Return the same series with its points elsewhere."""
        return replace(self, x=x, y=y, z=z)

    def merge(self, planes: Tensor) -> Tensor:
        """Average the planes of each slice: (plane, y, x) to (slice, y, x)."""
        whole = self.geometry
        return planes.reshape(whole.slices, whole.parts, *planes.shape[1:]).mean(dim=1)


def draw_geometry(rng: np.random.Generator, size_px: int) -> Geometry:
    """Draw slices: mostly thick, whole heads or a part of one."""
    thick = float(rng.choice([2.5, 3.0, 4.0, 5.0, 5.0, 5.0, 6.0, 7.0, 8.0, 10.0],
                             p=[.05, .08, .12, .2, .2, .15, .07, .06, .05, .02]))  # fmt: skip
    step = thick * (float(rng.uniform(0.8, 1.2)) if rng.random() < 0.15 else 1.0)
    first = FEET_MM + float(rng.normal(0, 8))
    last = CROWN_MM + float(rng.normal(2, 8))
    fov = float(rng.uniform(205, 270)) if rng.random() < 0.85 else float(rng.uniform(190, 320))
    return Geometry(
        slices=max(int((last - first) / step), 4),
        size_px=size_px,
        pixel_mm=fov / size_px,
        step_mm=step,
        thickness_mm=thick,
        parts=int(np.clip(np.ceil(thick / 2.0), 2, 4)),
        first_mm=first,
    )


def draw_space(rng: np.random.Generator, chance: torch.Generator, geometry: Geometry) -> Space:
    """Draw pose, size and shape of the head, and return where its points are."""
    device = chance.device
    n, px = geometry.size_px, geometry.pixel_mm
    rows = (torch.arange(n, device=device, dtype=torch.float32) - n / 2 + 0.5) * px
    parts = (torch.arange(geometry.parts, device=device) + 0.5) / geometry.parts - 0.5
    slices = torch.arange(geometry.slices, device=device)[:, None] * geometry.step_mm
    planes = (slices + parts * geometry.thickness_mm + geometry.first_mm).flatten()
    fields = Fields(planes, rows, rows, chance)
    offset = rng.normal(0, 5), rng.normal(0, 6)
    across = rows[None, None, :] - float(offset[0])
    ahead = -rows[None, :, None] + float(offset[1])
    up = planes[:, None, None] - CENTRE_MM[2]
    turn = _pose(rng)
    flip = 1.0 if rng.random() < 0.5 else -1.0
    x, y, z = (
        float(row[0]) * across + float(row[1]) * ahead + float(row[2]) * up + centre
        for row, centre in zip(turn, CENTRE_MM, strict=True)
    )
    space = Space(geometry, x * flip, y, z, rows[None, :, None], fields)
    return bend(space, coarse_mm=float(rng.uniform(1.2, 4.0)), fine_mm=float(rng.uniform(0.1, 0.5)))


def _pose(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return the matrix from the scanner's frame to the head's: turned, and of another size."""
    spread = 9 if rng.random() < 0.9 else 22
    yaw, pitch, roll = np.deg2rad([rng.normal(0, spread), rng.normal(4, 9), rng.normal(0, 4)])
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    )  # fmt: skip
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    size = log_uniform(rng, 0.88, 1.1) * np.exp(rng.normal(0, 0.03, 3))
    turn: npt.NDArray[np.float64] = (about_z @ about_x @ about_y) / size[:, None]
    return turn


def bend(space: Space, *, coarse_mm: float, fine_mm: float) -> Space:
    """Bend the space smoothly by about so many mm."""
    draw = space.fields.draw
    moved = [
        axis + coarse_mm * draw(52.0) + fine_mm * draw(16.0) for axis in (space.x, space.y, space.z)
    ]
    return space.moved(*moved)
