"""The processes that read: in order, and not to be blamed for a script that cannot start them."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from train.data.pool import each

ROOT = Path(__file__).parents[2]
UNGUARDED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.training_data import SPEC, ToySource
from train.data.cache import build_cache
build_cache(Path(sys.argv[2]), ToySource(4), SPEC, workers=2)
"""


def test_many_items_are_worked_on_by_processes_and_stay_in_order() -> None:
    """Seven hundred items in two processes give what one gives."""
    items = list(range(700))
    assert list(each(math.sqrt, items, "Roots", 2)) == [math.sqrt(item) for item in items]
    assert list(each(math.sqrt, items[:3], "Roots", 2)) == [math.sqrt(item) for item in items[:3]]


@pytest.mark.slow
def test_a_script_that_cannot_start_processes_quarantines_nothing(tmp_path: Path) -> None:
    """Without a guard its processes would start it again; it is told so, no series is blamed."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    words = [sys.executable, str(script), str(ROOT), str(tmp_path / "cache")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "Processes that read cannot be started" in ended.stderr
    assert (tmp_path / "cache" / "quarantine.jsonl").read_text() == ""
