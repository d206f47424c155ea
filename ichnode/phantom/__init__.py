"""Simulated head CT with bleeds: procedural, deterministic by seed, written as DICOM.

Everything here is made up by arithmetic; no scan of a person went into it. `randomised` alone can
start from what it is given: the maps of an average head, or a scan without haemorrhage.
"""

from ichnode.phantom.dicom import write_series
from ichnode.phantom.head import SimulatedHead, simulate_head
from ichnode.phantom.identity import Identity
from ichnode.phantom.studies import (
    DEMO_SEEDS,
    DEMONSTRATION_SEEDS,
    HOLDOUT_SEEDS,
    TRAINING_SEEDS,
    StudyFiles,
    write_study,
)

__all__ = [
    "DEMONSTRATION_SEEDS",
    "DEMO_SEEDS",
    "HOLDOUT_SEEDS",
    "TRAINING_SEEDS",
    "Identity",
    "SimulatedHead",
    "StudyFiles",
    "simulate_head",
    "write_series",
    "write_study",
]
