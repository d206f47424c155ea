"""The predictor: engines, batches, slabs, falling back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor, nn

from ichnode.domain.errors import ConfigurationError, ModelUnusable
from ichnode.domain.findings import LABELS, Finding, Presence
from ichnode.imaging.volume import CtVolume
from ichnode.infer.device import Engine, cpu_has_bfloat16, eager, engine_makers
from ichnode.infer.engines import LONGEST_PAUSE_S, PAUSE_S
from ichnode.infer.predictor import LogitsNotFinite, Predictor
from ichnode.nets.bundle import Bundle
from ichnode.nets.local import compact_body
from ichnode.nets.manifest import Manifest
from ichnode.nets.mask_network import MaskNetwork
from ichnode.phantom import simulate_head
from tests.infer_kit import Tried, around, exact
from tests.models import write_drawing, write_model, write_pair, write_with_context


def reduced(networks: Mapping[str, nn.Module]) -> Engine:
    return eager(networks, torch.device("cpu"), torch.bfloat16)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    write_model(folder, logit=-1.0)
    return Bundle.load(folder)


@pytest.fixture(scope="module")
def volume() -> CtVolume:
    head = simulate_head(900_001, bleeds=["subdural"], slices=20, size_px=128)
    return volume_of(head.hu, head.spacing_mm[0], head.spacing_mm[1])


def volume_of(hu: np.ndarray, step_mm: float, pixel_mm: float) -> CtVolume:
    count = len(hu)
    return CtVolume(
        hu=hu,
        spacing_mm=(step_mm, pixel_mm, pixel_mm),
        positions_mm=np.arange(count) * step_mm,
        slice_uids=tuple(f"2.25.{index + 1}" for index in range(count)),
    )


def test_every_slice_gets_its_probabilities(bundle: Bundle, volume: CtVolume) -> None:
    """Six per slice and per series, with the slice that shows each label best."""
    found = Predictor(bundle, [exact]).predict(volume)
    assert found.slices.shape == (20, 6)
    assert found.key_slices == tuple(found.slices.argmax(axis=0))
    assert len(np.unique(found.slices[:, 0])) > 10
    assert found.finding is Finding.NEGATIVE
    assert found.presence == (Presence.ABSENT,) * 6
    assert found.device == "cpu float32"


def test_the_size_of_batches_changes_nothing(bundle: Bundle, volume: CtVolume) -> None:
    """One slice at a time or all at once: the same probabilities."""
    whole = Predictor(bundle, [exact]).predict(volume)
    few = Predictor(bundle, [exact], batch=3)
    assert np.allclose(few.predict(volume).slices, whole.slices, atol=1e-6)


def test_a_series_upside_down_is_the_same_series(bundle: Bundle, volume: CtVolume) -> None:
    """With below and above swapped in the weights' eyes only the neighbours change: the sizes of
    the results agree and each slice keeps its place.
    """
    upright = Predictor(bundle, [exact]).predict(volume)
    turned = volume_of(volume.hu[::-1].copy(), volume.spacing_mm[0], volume.spacing_mm[1])
    found = Predictor(bundle, [exact]).predict(turned)
    assert np.abs(found.slices[::-1] - upright.slices).max() < 0.05


def test_thin_slices_share_their_slab(bundle: Bundle, volume: CtVolume) -> None:
    """1.25 mm slices are read by fours; each native slice is answered for, the key slice is one."""
    thin = volume_of(np.repeat(volume.hu, 4, axis=0), 1.25, volume.spacing_mm[1])
    found = Predictor(bundle, [exact]).predict(thin)
    thick = Predictor(bundle, [exact]).predict(volume)
    assert found.slices.shape == (80, 6)
    assert np.allclose(found.slices, np.repeat(thick.slices, 4, axis=0), atol=1e-6)
    assert found.key_slices == tuple(4 * key + 1 for key in thick.key_slices)


def test_reduced_precision_says_the_same(bundle: Bundle, volume: CtVolume) -> None:
    """bfloat16 stays within two hundredths of a probability."""
    one = Predictor(bundle, [exact]).predict(volume)
    other = Predictor(bundle, [reduced]).predict(volume)
    assert other.device == "cpu bfloat16"
    assert np.abs(one.slices - other.slices).max() < 0.02


def test_a_pair_asks_for_kinds_where_there_is_blood(tmp_path: Path, volume: CtVolume) -> None:
    """The subtype network of a pair answers on positive slices alone."""
    write_pair(tmp_path / "blood", hemorrhage_logit=4.0, subtype_logit=3.0)
    write_pair(tmp_path / "none", hemorrhage_logit=-4.0, subtype_logit=3.0)
    blood = Predictor(Bundle.load(tmp_path / "blood"), [exact]).predict(volume)
    none = Predictor(Bundle.load(tmp_path / "none"), [exact]).predict(volume)
    assert blood.finding is Finding.POSITIVE
    assert blood.slices[0].tolist() == pytest.approx(
        [1 / (1 + np.exp(-4)), *[1 / (1 + np.exp(-3))] * 5], abs=1e-3
    )
    assert none.finding is Finding.NEGATIVE
    assert none.slices[:, 1:].max() < 1e-9


def test_a_context_network_is_asked_of_the_whole_series(tmp_path: Path, volume: CtVolume) -> None:
    """With no share in it the joint network answers alone; with all of it the context does."""
    joint = write_model(tmp_path / "joint", logit=0.5)
    none, all_ = (0.0,) * 6, (1.0,) * 6
    write_with_context(tmp_path / "none", logit=0.5, slice_blend=none, series_blend=none)
    write_with_context(tmp_path / "all", logit=0.5, slice_blend=all_, series_blend=all_)
    write_with_context(tmp_path / "mixed", logit=0.5, slice_blend=none, series_blend=all_)
    plain, ignored, believed, mixed = (
        Predictor(Bundle.load(tmp_path / name), [exact]).predict(volume)
        for name in ("joint", "none", "all", "mixed")
    )
    assert joint.context is None
    assert np.array_equal(plain.slices, ignored.slices)
    assert np.array_equal(plain.series, ignored.series)
    assert np.abs(believed.slices - plain.slices).max() > 0.01
    assert np.array_equal(mixed.slices, plain.slices)
    assert np.array_equal(mixed.series, believed.series)
    assert believed.key_slices == tuple(believed.slices.argmax(axis=0))


def test_a_context_is_the_same_in_batches_and_nearly_in_reduced_precision(
    tmp_path: Path, volume: CtVolume
) -> None:
    """Whatever the batch, the series is read whole; the context itself runs at full precision."""
    write_with_context(tmp_path)
    bundle = Bundle.load(tmp_path)
    whole = Predictor(bundle, [exact]).predict(volume)
    few = Predictor(bundle, [exact], batch=3).predict(volume)
    quick = Predictor(bundle, [reduced]).predict(volume)
    assert np.allclose(few.slices, whole.slices, atol=1e-6)
    assert np.allclose(few.series, whole.series, atol=1e-6)
    assert quick.device == "cpu bfloat16"
    assert np.abs(quick.series - whole.series).max() < 0.02
    context = reduced(bundle.networks).parts.context
    assert context is not None
    assert {p.dtype for p in context.parameters()} == {torch.float32}


def test_a_context_survives_a_device_without_memory(tmp_path: Path, volume: CtVolume) -> None:
    """The batch is halved, and the series is still read from its first slice to its last."""
    write_with_context(tmp_path)
    bundle = Bundle.load(tmp_path)
    device = Failing(torch.OutOfMemoryError, largest=5)
    found = Predictor(bundle, [device, exact]).predict(volume)
    assert found.device == "failing"
    assert np.allclose(found.series, Predictor(bundle, [exact]).predict(volume).series, atol=1e-6)


def test_the_self_test_is_of_the_context_too(tmp_path: Path) -> None:
    """Slices as exported and a series that is not: the model is unusable here."""
    write_with_context(tmp_path, off=0.5)
    with pytest.raises(ModelUnusable, match="fails its self-test"):
        Predictor(Bundle.load(tmp_path), [exact])


def test_logits_that_are_no_numbers_fail_the_self_test(tmp_path: Path) -> None:
    """A device that answers NaN differs from what is expected."""
    write_model(tmp_path, logit=0.0)

    def broken(networks: Mapping[str, nn.Module]) -> Engine:
        return around(exact(networks), "broken", lambda run, images: run(images) * torch.nan)

    assert Predictor(Bundle.load(tmp_path), [broken, exact]).device == "cpu float32"


def test_a_model_that_differs_from_its_self_test_is_refused(tmp_path: Path) -> None:
    """Logits other than the exported ones on every engine: the model is unusable here."""
    write_model(tmp_path, logit=0.0, off=0.5)
    with pytest.raises(ModelUnusable, match="fails its self-test"):
        Predictor(Bundle.load(tmp_path), [reduced, exact])


def test_an_engine_that_differs_is_passed_over(tmp_path: Path, volume: CtVolume) -> None:
    """Where the quick engine is not exact enough for a model, the exact one runs."""
    manifest = write_model(tmp_path, logit=2.0)
    strict = Bundle.load(tmp_path)
    assert manifest.self_test.tolerance_reduced == 0.2

    def wrong(networks: Mapping[str, nn.Module]) -> Engine:
        return around(reduced(networks), "wrong", lambda run, images: run(images) + 1)

    predictor = Predictor(strict, [wrong, exact])
    assert predictor.device == "cpu float32"
    assert predictor.predict(volume).finding is Finding.REVIEW


class Failing:
    """An engine whose device works for the self-test and then fails as told."""

    def __init__(self, error: type[RuntimeError], largest: int = 0) -> None:
        self.error, self.largest, self.sizes = error, largest, []

    def __call__(self, networks: Mapping[str, nn.Module]) -> Engine:
        return around(exact(networks), "failing", self.run)

    def run(self, run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        if len(self.sizes) > 1 and len(images) > self.largest:
            raise self.error("as told")
        return run(images)


def test_running_out_of_memory_halves_the_batch(bundle: Bundle, volume: CtVolume) -> None:
    """The device is kept as long as a smaller batch fits."""
    device = Failing(torch.OutOfMemoryError, largest=5)
    predictor = Predictor(bundle, [device, exact])
    found = predictor.predict(volume)
    assert found.device == "failing"
    assert device.sizes == [8, 20, 16, 8, 4, 4, 4, 4, 4]
    assert np.allclose(found.slices, Predictor(bundle, [exact]).predict(volume).slices, atol=1e-6)


def test_no_memory_at_all_falls_back(bundle: Bundle, volume: CtVolume) -> None:
    """When not even one slice fits, the next engine takes over and the study is read."""
    predictor = Predictor(bundle, [Failing(torch.OutOfMemoryError), exact])
    assert predictor.predict(volume).device == "cpu float32"


def test_a_lost_device_falls_back(bundle: Bundle, volume: CtVolume) -> None:
    """A device that fails is left, and the next series does without it too."""
    device = Failing(RuntimeError)
    predictor = Predictor(bundle, [device, exact])
    assert predictor.lesser is None
    assert predictor.predict(volume).device == "cpu float32"
    calls = len(device.sizes)
    predictor.predict(volume)
    assert len(device.sizes) == calls
    assert predictor.lesser == (
        "The model runs on cpu float32: a better engine failed (failing: RuntimeError)."
    )


def test_a_batch_that_was_halved_is_whole_again_for_the_next_series(
    bundle: Bundle, volume: CtVolume
) -> None:
    """Memory that somebody else had for a moment slows one series down and no other."""
    device = Failing(torch.OutOfMemoryError, largest=5)
    predictor = Predictor(bundle, [device, exact])
    predictor.predict(volume)
    device.sizes.clear()
    device.largest = 20
    assert predictor.predict(volume).device == "failing"
    assert device.sizes == [20]


class HandTime:
    """Seconds that pass when they are told to."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_series_that_two_engines_fail_over_costs_one_pause(
    bundle: Bundle, volume: CtVolume
) -> None:
    """A GPU has two ways to read; one odd series is no reason to stay away for longer."""
    first, second, time = Tried("first"), Tried("second"), HandTime()
    predictor = Predictor(bundle, [first, second, exact], now_s=time)
    first.reads = second.reads = False
    assert predictor.predict(volume).device == "cpu float32"
    first.reads = second.reads = True
    time.now_s += PAUSE_S
    assert predictor.predict(volume).device == "first"


@pytest.mark.parametrize("how", ["a series", "the making", "the self-test"])
def test_a_better_engine_is_tried_again_after_pauses_that_grow(
    bundle: Bundle, volume: CtVolume, how: str
) -> None:
    """It comes back as soon as it works; until then a try costs ever more rarely."""
    quick, time = Tried("quick"), HandTime()
    predictor = Predictor(bundle, [quick, exact], now_s=time)
    quick.reads = False
    assert predictor.predict(volume).device == "cpu float32"
    quick.made, quick.off = how != "the making", 100.0 * (how == "the self-test")
    quick.reads = how != "a series"
    pause_s, tries = PAUSE_S, quick.tries
    for _ in range(10):
        time.now_s += pause_s - 1
        assert predictor.predict(volume).device == "cpu float32"
        assert quick.tries == tries
        time.now_s += 1
        assert predictor.predict(volume).device == "cpu float32"
        assert quick.tries == tries + 1
        assert predictor.lesser is not None
        pause_s, tries = min(2 * pause_s, LONGEST_PAUSE_S), quick.tries
    quick.made, quick.reads, quick.off = True, True, 0.0
    time.now_s += LONGEST_PAUSE_S
    with capture_logs() as logs:
        assert predictor.predict(volume).device == "quick"
    assert [one["event"] for one in logs] == ["engine.resumed"]
    assert predictor.lesser is None
    quick.reads = False  # one odd series, long after: the first pause is short again
    predictor.predict(volume)
    quick.reads = True
    time.now_s += PAUSE_S
    assert predictor.predict(volume).device == "quick"


def test_an_engine_that_was_not_there_at_the_start_is_tried_too(
    bundle: Bundle, volume: CtVolume
) -> None:
    """Another process had the memory, say; of two that come back the better one runs."""
    best, second, time = Tried("best", made=False), Tried("second", made=False), HandTime()
    predictor = Predictor(bundle, [best, second, exact], now_s=time)
    assert predictor.lesser == (
        "The model runs on cpu float32: a better engine failed (RuntimeError)."
    )
    second.made = True
    time.now_s += PAUSE_S
    assert predictor.predict(volume).device == "second"
    assert predictor.lesser is not None
    best.made = True
    time.now_s += 2 * PAUSE_S
    assert predictor.predict(volume).device == "best"
    assert predictor.lesser is None


def test_an_engine_that_was_never_exact_enough_is_no_better_one(
    bundle: Bundle, volume: CtVolume
) -> None:
    """On the same device it is passed over for good, and nothing is said of it."""
    inexact, time = Tried("inexact"), HandTime()
    inexact.off = 100.0
    predictor = Predictor(bundle, [inexact, exact], now_s=time)
    time.now_s += LONGEST_PAUSE_S
    assert predictor.predict(volume).device == "cpu float32"
    assert (inexact.tries, predictor.lesser) == (1, None)


def test_an_error_on_the_last_engine_is_raised(bundle: Bundle, volume: CtVolume) -> None:
    """With nothing left to fall back to, the caller hears of it."""
    with pytest.raises(RuntimeError, match="as told"):
        Predictor(bundle, [Failing(RuntimeError)]).predict(volume)


class Answering:
    """An engine that is right in the self-test and then has one value for one slice of a series."""

    def __init__(self, value: float, name: str) -> None:
        self.value, self.name, self.calls = value, name, 0

    def __call__(self, networks: Mapping[str, nn.Module]) -> Engine:
        return around(exact(networks), self.name, self.run)

    def run(self, run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        self.calls += 1
        features = run(images)
        if self.calls > 1:
            features[len(features) // 2] = self.value
        return features


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_never_a_finding(
    tmp_path: Path, volume: CtVolume, value: float
) -> None:
    """One slice of many is enough: the next engine reads the series, and after the last it fails.

    Compared with a threshold NaN is below it, so that blood in every slice would be a negative.
    """
    write_model(tmp_path, logit=4.0)
    bundle = Bundle.load(tmp_path)
    with capture_logs() as logs:
        found = Predictor(bundle, [Answering(value, "odd"), exact]).predict(volume)
    assert (found.finding, found.device) == (Finding.POSITIVE, "cpu float32")
    assert [(one["device"], one["error"]) for one in logs] == [("odd", "LogitsNotFinite")]
    with pytest.raises(LogitsNotFinite):
        Predictor(bundle, [Answering(value, "odd"), Answering(value, "last")]).predict(volume)


def test_a_context_that_is_no_number_is_never_a_finding(tmp_path: Path, volume: CtVolume) -> None:
    """The slices are sound and the context network is not, even where it is not believed."""
    none = (0.0,) * 6
    write_with_context(tmp_path, logit=4.0, slice_blend=none, series_blend=none)
    made: list[Engine] = []

    def forgetful(networks: Mapping[str, nn.Module]) -> Engine:
        made.append(exact(networks))
        return made[-1]

    predictor = Predictor(Bundle.load(tmp_path), [forgetful])
    assert predictor.predict(volume).finding is Finding.POSITIVE
    context = made[0].parts.context
    assert context is not None
    for weights in context.parameters():
        weights.fill_(torch.nan)
    with pytest.raises(LogitsNotFinite):
        predictor.predict(volume)


def test_the_cpu_is_always_the_last_resort() -> None:
    """Whatever is chosen, exact arithmetic on the CPU ends the list."""
    makers = engine_makers("auto")
    assert len(makers) >= 1 + cpu_has_bfloat16()
    if not torch.cuda.is_available():
        with pytest.raises(ConfigurationError, match="no CUDA device"):
            engine_makers("cuda")


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize("write", [write_model, write_with_context])
@pytest.mark.parametrize(
    ("dtype", "allowed"), [(torch.float32, 1e-3), (torch.bfloat16, 0.02), (torch.float16, 0.01)]
)
def test_a_gpu_says_the_same_as_the_cpu(
    tmp_path: Path,
    volume: CtVolume,
    write: Callable[..., Manifest],
    dtype: torch.dtype,
    allowed: float,
) -> None:
    """On CUDA the probabilities agree, at full precision to a thousandth; with a context too."""
    write(tmp_path, logit=-1.0)
    bundle = Bundle.load(tmp_path)
    gpu = Predictor(bundle, [lambda n: eager(n, torch.device("cuda"), dtype)]).predict(volume)
    cpu = Predictor(bundle, [exact]).predict(volume)
    assert np.abs(gpu.slices - cpu.slices).max() < allowed
    assert np.abs(gpu.series - cpu.series).max() < allowed


@pytest.mark.parametrize("error", [RuntimeError, ValueError, MemoryError])
def test_a_mask_that_fails_costs_no_finding(
    tmp_path: Path, volume: CtVolume, error: type[Exception]
) -> None:
    """The alert goes out with the volume that is known already, and without an outline."""
    write_drawing(tmp_path, logit=4.0, mask_logit=3.0)
    bundle = Bundle.load(tmp_path)

    def fail(_images: Tensor) -> Tensor:
        raise error("whatever it is")

    def without_masks(networks: Mapping[str, nn.Module]) -> Engine:
        whole = exact(networks)
        return dataclasses.replace(
            whole, parts=dataclasses.replace(whole.parts, masks={"joint": fail})
        )

    drawn = Predictor(bundle, [exact]).predict(volume)
    failed = Predictor(bundle, [without_masks]).predict(volume)
    assert drawn.key_mask is not None
    assert failed.key_mask is None
    assert failed.finding is drawn.finding is Finding.POSITIVE
    assert failed.volume_ml == drawn.volume_ml


def test_a_volume_that_fails_costs_no_finding(tmp_path: Path, volume: CtVolume) -> None:
    """Areas of too few labels fit no scale: the type of the error is logged, and no volume said."""
    write_drawing(tmp_path, logit=4.0, mask_logit=3.0)

    def short(networks: Mapping[str, nn.Module]) -> Engine:
        whole = exact(networks)
        areas = {"joint": lambda features: features[:, :4]}
        return dataclasses.replace(whole, parts=dataclasses.replace(whole.parts, areas=areas))

    with capture_logs() as logs:
        said = Predictor(Bundle.load(tmp_path), [short]).predict(volume)
    assert (said.volume_ml, said.finding) == (None, Finding.POSITIVE)
    assert [(one["what"], one["error"]) for one in logs] == [("volume", "ValueError")]


@pytest.mark.parametrize("error", [RuntimeError, ValueError, MemoryError, torch.OutOfMemoryError])
@pytest.mark.parametrize("able_first", [True, False], ids=["later", "from the start"])
def test_areas_that_fail_cost_no_finding(
    tmp_path: Path, volume: CtVolume, error: type[Exception], *, able_first: bool
) -> None:
    """A network that cannot say how much of an image is blood still says whether there is any.

    Nor does it lose its engine: the areas have no part in the self-test.
    """
    write_drawing(tmp_path, logit=4.0, mask_logit=3.0)
    whole = Bundle.load(tmp_path)

    class CannotMeasure(MaskNetwork):
        able = able_first

        def areas(self, features: Tensor) -> Tensor:
            if CannotMeasure.able:
                return super().areas(features)
            raise error("whatever it is")

    body = compact_body(whole.manifest.preprocess.channels)
    network = CannotMeasure(body, whole.manifest.preprocess.channels, len(LABELS), width=48)
    network.load_state_dict(whole.networks["joint"].state_dict())
    predictor = Predictor(dataclasses.replace(whole, networks={"joint": network}), [exact, reduced])
    first = predictor.predict(volume)
    CannotMeasure.able = False
    with capture_logs() as logs:
        said = predictor.predict(volume)
    assert (first.volume_ml is not None) is able_first
    assert (said.volume_ml, said.finding) == (None, Finding.POSITIVE)
    assert np.array_equal(said.slices, first.slices)
    assert said.key_mask is not None
    assert said.device == "cpu float32"
    assert [(one["what"], one["error"]) for one in logs] == [("volume", error.__name__)]


def test_a_volume_that_is_no_number_is_none(tmp_path: Path, volume: CtVolume) -> None:
    """Nothing is said of it; the finding stands."""
    write_drawing(tmp_path, logit=4.0, mask_logit=3.0)

    def lost(networks: Mapping[str, nn.Module]) -> Engine:
        whole = exact(networks)
        areas = {"joint": lambda features: features[:, :6] * float("nan")}
        return dataclasses.replace(whole, parts=dataclasses.replace(whole.parts, areas=areas))

    said = Predictor(Bundle.load(tmp_path), [lost]).predict(volume)
    assert said.volume_ml is None
    assert said.finding is Finding.POSITIVE


def test_a_volume_is_the_same_in_reduced_precision(tmp_path: Path, volume: CtVolume) -> None:
    """Areas are summed at full precision whatever the network computes with."""
    write_drawing(tmp_path, logit=4.0, mask_logit=-1.0)
    bundle = Bundle.load(tmp_path)
    full, half = (Predictor(bundle, [make]).predict(volume) for make in (exact, reduced))
    assert full.volume_ml == pytest.approx(half.volume_ml, rel=0.01)
