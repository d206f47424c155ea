"""What runs at this moment, as the heartbeat, the page and the health checks say it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from ichnode.domain.work import Analysed
from ichnode.infer.stage import InferStage
from ichnode.nets.registry import Registry
from ichnode.phantom.studies import write_study
from ichnode.service import health, roles
from ichnode.service.stopping import Stopping
from ichnode.service.webpage import mode_of
from ichnode.settings import InferSettings, NodeSettings, Settings
from ichnode.web.health import warnings_of
from ichnode.worklist import schema
from ichnode.worklist.engine import connect
from ichnode.worklist.worklist import Worklist
from tests.infer_kit import Tried, exact, install, work_on
from tests.worklist_kit import POLICY


class Site:
    """An infer process on a machine with a GPU that can be told to fail, and its page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(
            node=NodeSettings(
                spool=folder, database=SecretStr(f"sqlite:///{folder / 'worklist.db'}")
            ),
            infer=InferSettings(models=folder / "models"),
        )
        engine = connect(self.settings.node.database.get_secret_value())
        schema.upgrade(engine)
        self.worklist = Worklist(engine, POLICY)
        self.first = self.promoted("1")
        self.gpu = Tried("gpu")
        self.stage = InferStage(
            folder / "models", folder, makers=lambda _device: (self.gpu, exact), threads=1
        )
        self.files = write_study(folder / "study", 900_004, slices=24, size_px=128).series["head"]

    def promoted(self, version: str) -> str:
        return install(self.folder / "models", self.folder / version, logit=-3.0, version=version)

    def read(self) -> str:
        """Read the study and return the UID of the model that did."""
        outcome = self.stage.handle(work_on(self.folder, self.files))
        assert isinstance(outcome, Analysed)
        return outcome.result.model_uid

    def said(self) -> dict[str, object]:
        """Return what the last heartbeat said."""
        return next((one.detail for one in self.worklist.views.heartbeats()), {})

    def until(self, question: Callable[[], bool]) -> None:
        pause = threading.Event()
        assert any(question() or pause.wait(0.02) for _ in range(500)), self.said()

    def checks(self) -> dict[str, health.Check]:
        return {one.name: one for one in health.examine(self.settings)}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site whose role infer is running."""
    monkeypatch.setattr(roles, "HEARTBEAT_S", 0.02)
    made, stopping = Site(tmp_path), Stopping()
    running = threading.Thread(
        target=roles._run_loops,
        args=("infer", [], made.settings, made.worklist, stopping),
        kwargs={"news": made.stage.news, "warnings": made.stage.warnings},
    )
    running.start()
    yield made
    stopping.event.set()
    running.join()
    made.worklist.close()


def test_a_gpu_that_is_left_is_seen_and_the_model_that_took_over_too(site: Site) -> None:
    """The heartbeat says what runs now, not what ran at the start; a warning comes with it."""
    site.until(lambda: site.said() == {"device": "gpu", "model_uid": site.first})
    assert site.checks()["infer"] == health.Check("infer", True, "The model runs on gpu.")
    site.gpu.reads = False
    site.read()
    why = "The model runs on cpu float32: a better engine failed (gpu: RuntimeError)."
    site.until(lambda: site.said().get("device") == "cpu float32")
    assert warnings_of(site.worklist.views.heartbeats()) == [why]
    assert site.checks()["infer"] == health.Check("infer", False, why)
    site.gpu.reads = True
    second = site.promoted("2")
    assert site.read() == second
    site.until(lambda: site.said() == {"device": "gpu", "model_uid": second})


def test_a_champion_that_cannot_be_used_is_not_named_as_the_one_that_runs(site: Site) -> None:
    """The page names what reads on, and says whether that one's outputs are open."""
    site.worklist.commission(site.first, "Dr B", [])
    second = site.promoted("2")
    weights = site.folder / "models" / second / "joint.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"")
    # Nothing was read since: the new one is the one that will be.
    assert (mode_of(site.settings, site.worklist).model) == "untrained 2"
    assert site.read() == site.first
    site.until(lambda: site.said().get("refuses_champion") is True)
    mode = mode_of(site.settings, site.worklist)
    assert (mode.model, mode.observing) == ("untrained 1 (the champion cannot be used)", False)
    (warning,) = warnings_of(site.worklist.views.heartbeats())
    assert warning.startswith("The champion cannot be used, and untrained 1 reads on: ")
    assert not site.checks()["infer"].ok
    assert site.checks()["mode"].sentence == "Commissioned for the model that runs."
    weights.write_bytes(whole)
    Registry(site.folder / "models").promote(site.first)
    site.until(lambda: site.said() == {"device": "gpu", "model_uid": site.first})
    assert mode_of(site.settings, site.worklist).model == "untrained 1"
