"""What the demonstration's scanner sends, and the node that it sends to."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ichnode.domain.findings import Label
from ichnode.phantom.companions import write_non_head
from ichnode.phantom.identity import Identity
from ichnode.phantom.studies import DEMONSTRATION_SEEDS, Extra, write_study

FIRST_SEED = DEMONSTRATION_SEEDS.start + 10_000
LEAST_BLEED_ML = 25.0
"""Large bleeds: the demonstration shows the corridor, not the limits of the small model."""

BLEEDS: tuple[Label, ...] = (
    "intraparenchymal",
    "epidural",
    "intraventricular",
    "subarachnoid",
    "subdural",  # last: of these heads the shipped model reads it worst; 15 studies show it
)


@dataclass(frozen=True, slots=True)
class PlannedStudy:
    """One study of the demonstration."""

    seed: int
    bleeds: tuple[Label, ...] = ()
    extras: tuple[Extra, ...] = ()
    head: bool = True


@dataclass(frozen=True, slots=True)
class ScannedStudy:
    """A planned study as files."""

    plan: PlannedStudy
    study_uid: str
    accession_number: str
    series: dict[str, list[Path]]  # in the order in which the scanner sends them

    @property
    def bleeds(self) -> bool:
        """Whether the simulated patient bleeds."""
        return bool(self.plan.bleeds)


def plan(studies: int) -> list[PlannedStudy]:
    """Return the studies in the order in which they are scanned: the bleeds come late.

    One in three bleeds. The first ones come with what scanners send along, and a CT of something
    else comes in between.
    """
    count = max(1, studies // 3)
    calm = [PlannedStudy(FIRST_SEED + i) for i in range(studies - count)]
    calm[0] = PlannedStudy(calm[0].seed, extras=("localizer", "dose_report"))
    calm[1] = PlannedStudy(calm[1].seed, extras=("bone",))
    bleeding = [
        PlannedStudy(FIRST_SEED + studies + i, (BLEEDS[i % len(BLEEDS)],)) for i in range(count)
    ]
    other = PlannedStudy(FIRST_SEED + 2 * studies, head=False)
    # Late, but not all at the very end: one calm study comes after the first bleed.
    return [*calm[:2], other, *calm[2:-1], bleeding[0], calm[-1], *bleeding[1:]]


def scan(folder: Path, study: PlannedStudy) -> ScannedStudy:
    """Simulate one study and write it as DICOM (runs in a process of its own)."""
    target = folder / f"{study.seed}"
    if study.head:
        written = write_study(
            target,
            study.seed,
            bleeds=study.bleeds,
            extras=study.extras,
            least_bleed_ml=LEAST_BLEED_ML,
        )
        who, series = written.identity, written.series
    else:
        who = Identity.simulated(study.seed)
        series = {
            "non_head": write_non_head(target, identity=who, series_number=2, seed=study.seed)
        }
    return ScannedStudy(study, who.study_uid, who.accession, series)


def scan_all(
    folder: Path, studies: Sequence[PlannedStudy], pool: ProcessPoolExecutor
) -> list[Future[ScannedStudy]]:
    """Start simulating every study, in order, on all cores."""
    return [pool.submit(scan, folder, study) for study in studies]


CONFIGURATION = """\
# The demonstration's node: everything on this machine, in observe mode.
[node]
host_id = "demo"
spool = "{folder}/spool"
database = "sqlite:///{folder}/worklist.db"

[receive]
port = 0

[infer]
models = "{folder}/models"

[report]
negative_sr = true

[[destinations]]
name = "demopacs"
ae_title = "{ae_title}"
host = "127.0.0.1"
port = {port}
ups = true

[web]
port = 0

[logs]
style = "json"
"""


def write_configuration(folder: Path, *, ae_title: str, port: int) -> Path:
    """Write the demonstration's configuration and return where it is."""
    path = folder / "ichnode.toml"
    path.write_text(CONFIGURATION.format(folder=folder, ae_title=ae_title, port=port))
    return path
