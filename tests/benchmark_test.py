"""What a benchmark says, against figures by hand and a clock that we set ourselves."""

import json
import pathlib
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest

from jaxlung import benchmark
from jaxlung.benchmark import data, device_peaks, loop, roofline, start_up, table, timing
from jaxlung.config import config_file
from jaxlung.data.feed import order, pipeline
from jaxlung.data.sources import datasets
from jaxlung.training import system as system_lib

MADE_UP = device_peaks.Peaks(2e12, 1e12, 1e11, 1e9, "a data sheet")


def load(spec="covidqu:quick", **fields):
    config = config_file.load(config_file.resolve(spec))
    config.update_from_flattened_dict(fields)
    return config


@pytest.fixture
def nowhere(tmp_path):
    """Fields of a config whose data are not prepared."""
    return {"data.data_dir": str(tmp_path / "none")}


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told to."""

    class Clock:
        now = 0.0

        def spend(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_a_benchmark_ends_with_a_line_of_what_its_table_shows(nowhere, capsys, tmp_path):
    trace = tmp_path / "trace"
    found = benchmark.run(load(**nowhere), seconds=0.01, profile_dir=str(trace))
    assert json.loads(benchmark.to_line(found)) == found
    shown = capsys.readouterr().out
    for name in ("input", "step", "training"):
        rates = found[f"{name}_images_per_s"]
        assert 0 < rates["min"] <= rates["median"] <= rates["max"]
        assert rates["per_device"] == pytest.approx(rates["median"] / 4)  # the tests' devices
        assert f"{rates['median']:.1f}" in shown
    assert found["repeats"] >= 5
    assert found["config"]["data"].startswith("256 generated images")
    assert "256 generated images in memory, nothing to decode, kept on the device" in shown
    # 4 images of as many FLOPs as job_test.py works out, but for padding and the first gradient.
    assert 0.9 < found["flops_per_step"] / (4 * 5_308_416) < 1
    assert found["flops_per_device"] == found["flops_per_step"] / 4
    assert found["peak"] is None
    assert "unknown: no data sheet of 'cpu'" in shown
    laps = dict(found["start_up_seconds"])
    assert laps.pop("total") == pytest.approx(sum(laps.values()))
    assert list(laps) == ["process", "data", "state", "compile", "first_step"]
    assert list(trace.rglob("*.xplane.pb"))


def test_several_steps_at_once_are_counted_one_by_one_on_either_feed(nowhere, monkeypatch, capsys):
    monkeypatch.setattr(device_peaks, "find", lambda kind: MADE_UP)
    fields = {"step.steps_per_dispatch": 2, "data.placement": "host", **nowhere}
    found = benchmark.run(load(**fields), seconds=0.01)
    assert found["config"]["steps_per_dispatch"] == 2
    assert 0.9 < found["flops_per_step"] / (4 * 5_308_416) < 1
    want = 4 / found["step_images_per_s"]["median"]  # Seconds of a step of 4 images.
    assert found["step_seconds"] == pytest.approx(want)
    share = found["flops_per_step"] / 4 / found["step_seconds"] / 1e12
    assert found["peak"]["step_share"] == pytest.approx(share)
    assert "1.0 TFLOP/s (a data sheet)" in capsys.readouterr().out


def test_training_goes_through_the_feeds_items_and_the_step_alone_stays_with_one(nowhere):
    config = load(**nowhere)
    system = system_lib.make_system(config)
    source, _ = data.open_source(config, system.settings)
    feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
    training = loop.Loop(system, feed, system.init_state(), config.seed)
    want = list(feed.items(order.shuffled(0, 256), 4, order.one_by_one(0, 5)))
    taken = []
    dispatch = training._dispatch
    training._dispatch = lambda item: (taken.append(item), dispatch(item))[1]
    training.step(2)
    training.train(2)
    training.draw(1)
    assert int(training.state.step) == 4
    # The loop drew the first item to compile; drawing alone took the fourth.
    for got, position in zip(taken, (0, 0, 1, 2), strict=True):
        np.testing.assert_array_equal(got, want[position])
    np.testing.assert_array_equal(next(training._items), want[4])


def test_seconds_per_dispatch_are_those_of_the_clock_and_slow_things_repeat_five_times(clock):
    cost = {"input": 0.02, "step": 0.5}
    calls = []

    def make(name):
        def run(count):
            calls.append((name, count))
            clock.spend(cost[name] * count)

        return run

    times = timing.measure({name: make(name) for name in cost}, seconds=1.0)
    np.testing.assert_allclose(times["input"], 5 * [0.02])
    np.testing.assert_allclose(times["step"], 5 * [0.5])
    # Ten dispatches of 0.02 s are a fifth of a second; one of 0.5 s is more already.
    assert calls == [("input", 1), ("step", 1)] + 5 * [("input", 10), ("step", 1)]


def test_fast_things_repeat_twenty_times_and_what_was_ready_does_not_count(clock):
    ready = [3]

    def run(count):
        for _ in range(count):
            clock.spend(0.0 if ready[0] else 0.01)
            ready[0] = max(0, ready[0] - 1)

    def settle():
        ready[0] = 1  # The dispatch after it is still quick.

    times = timing.measure({"input": lambda count: (clock.spend(0.01), run(count))}, 1.0, settle)
    assert len(times["input"]) == 20
    # 5 dispatches a repeat, all slow; and what each call costs by itself.
    np.testing.assert_allclose(times["input"], 20 * [0.01 + 0.01 / 5])


def test_rates_and_the_gap_are_those_of_the_clock(clock):
    # 8 images a dispatch of two steps: 0.1 s to read, 0.2 s to compute, 0.25 s for both.
    training = types.SimpleNamespace(
        draw=lambda count: clock.spend(0.1 * count),
        step=lambda count: clock.spend(0.2 * count),
        train=lambda count: clock.spend(0.25 * count),
        num_steps=2,
        streams=False,
    )
    system = types.SimpleNamespace(settings=types.SimpleNamespace(batch_size=4), is_volumetric=True)
    found = benchmark._rates(training, system, 1.0)
    rates = {name: found[f"{name}_patches_per_s"] for name in ("input", "step", "training")}
    assert rates["input"]["median"] == pytest.approx(80)
    assert rates["step"] == pytest.approx(dict(median=40, min=40, max=40, per_device=10))
    assert rates["training"]["median"] == pytest.approx(32)
    assert found["gap_percent"] == pytest.approx(20)
    assert found["step_seconds"] == pytest.approx(0.1)
    assert found["training_seconds"] == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("num_bytes", "limit", "least_seconds", "ridge"),
    [(1e9, "compute", 0.5, 10.0), (2e11, "memory", 2.0, 10.0)],
)
def test_the_bound_is_the_slower_of_computing_and_of_reading(
    num_bytes, limit, least_seconds, ridge
):
    # 5e11 FLOPs at 1e12 a second take half a second; 2e11 bytes at 1e11 a second two.
    work = {"flops_per_device": 5e11, "bytes_per_device": num_bytes}
    seconds = {"step_seconds": 4.0, "training_seconds": 5.0}
    found = roofline.bound(work, seconds, MADE_UP, "float32")
    assert found["bound"] == limit
    assert found["least_seconds"] == least_seconds
    assert found["ridge"] == ridge
    assert (found["flops_per_byte"] > ridge) == (limit == "compute")
    assert found["roofline_share"] == least_seconds / 4
    assert (found["step_share"], found["training_share"]) == (0.125, 0.1)
    assert roofline.bound(work, seconds, MADE_UP, "bfloat16")["step_share"] == 0.0625


def test_bytes_that_nobody_counts_leave_the_bound_out():
    seconds = {"step_seconds": 4.0, "training_seconds": 5.0}
    for unknown in (None, 0.0, -1.0):
        work = {"flops_per_device": 5e11, "bytes_per_device": unknown}
        assert "bound" not in roofline.bound(work, seconds, MADE_UP, "float32")


def test_memory_is_what_the_device_tells():
    class Device:
        def memory_stats(self):
            return {"peak_bytes_in_use": 3 * 2**30, "bytes_limit": 8 * 2**30}

    found = roofline.memory(Device(), None)
    assert found == {"bytes": 3 * 2**30, "how": "most in use", "limit": 8 * 2**30}
    assert table._memory(found) == "3 of 8 GiB, most in use"


def test_a_process_knows_its_age():
    path = start_up.__file__
    code = (
        "import importlib.util, time; time.sleep(0.3);"
        f"spec = importlib.util.spec_from_file_location('x', {path!r});"
        "x = importlib.util.module_from_spec(spec); spec.loader.exec_module(x);"
        "print(x.process_age())"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The kernel counts in hundredths of a second.
    assert 0.3 - 0.02 < float(done.stdout) < time.monotonic() - start + 0.02


def test_laps_are_the_time_between(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(start_up.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(start_up, "process_age", lambda: 2.5)
    clock = start_up.Clock()
    now[0] = 11.0
    clock.lap("data")
    now[0] = 14.0
    clock.lap("state")
    assert clock.seconds == {"process": 2.5, "data": 1.0, "state": 3.0}


def test_generated_volumes_give_patches_with_foreground(nowhere):
    config = load("covid19_ct:quick", **nowhere, **{"data.spacing_mm": (2.0, 0.0, 1.5)})
    system = system_lib.make_system(config)
    source, what = data.open_source(config, system.settings)
    assert what == "2 generated volumes in memory, nothing to decode"
    assert len(source) == len(source.people()) == 2
    feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
    batch = next(feed.batches(order.shuffled(0, feed.num_examples), 4, 1))
    assert batch["images"].shape == (4, *config.data.patch_size)
    assert batch["images"].dtype == np.int16
    assert bool((batch["masks"] & 2).any(axis=(1, 2, 3)).any())
    assert feed.store["images"].shape == (128, 256, 256)  # Nothing was cut off.


@pytest.mark.parametrize(
    ("spec", "phantoms", "files", "want"),
    [
        ("covidqu", 0, ["covid_qu_ex/infection/1.0.0"], True),
        ("covidqu", 0, ["covid_qu_ex/lung/1.0.0"], False),
        ("covidqu", 40, ["covid_qu_ex/infection/1.0.0"], False),
        ("covidqu", 40, ["phantom_covid_qu_ex_v1_40/covid_qu_ex/infection/1.0.0"], True),
        ("covidqu", 40, ["phantom_covid_qu_ex_v1_400/covid_qu_ex/infection/1.0.0"], False),
        ("covidqu_residual", 0, ["covid_qu_ex/infection/1.0.0"], True),
        ("cxr_lungs", 0, ["montgomery_cxr/512/1.0.0"], False),
        ("cxr_lungs", 0, ["montgomery_cxr/512/1.0.0", "shenzhen_cxr/512/1.0.0"], True),
    ],
)
def test_only_data_that_are_prepared_are_opened(spec, phantoms, files, want, tmp_path):
    for folder in files:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "dataset_info.json").touch()
    config = load(spec, **{"data.data_dir": str(tmp_path), "data.phantom_images": phantoms})
    assert datasets.is_prepared(config.data) == want


def test_prepared_data_are_found_where_training_prepares_them(tmp_path):
    config = load(**{"data.data_dir": str(tmp_path), "data.phantom_images": 20})
    settings = system_lib.make_system(config).settings
    before, _ = data.open_source(config, settings)
    assert isinstance(before, data.Generated)
    assert not list(tmp_path.iterdir())
    system_lib.open_splits(config)
    config.data.download = True  # Would be refused, or begin to download.
    source, what = data.open_source(config, settings)
    assert what == "covid_qu_ex/infection, training split"
    assert len(source) < 20


def test_a_folder_of_ones_own_is_opened_if_it_is_named():
    config = load("folder")
    assert not datasets.is_prepared(config.data)
    config.data.root = str(pathlib.Path("anywhere"))
    assert datasets.is_prepared(config.data)


def test_a_compiled_step_says_if_it_came_from_the_cache(tmp_path):
    def compile_twice():
        for _ in range(2):
            jax.clear_caches()
            with loop._cache_hits() as hits:
                jax.jit(lambda x: x * 3 + 1).lower(1.0).compile()
            yield bool(hits)

    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        assert list(compile_twice())[1]
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
    with loop._cache_hits() as hits:
        jax.jit(lambda x: x - np.float32(time.time_ns() % 10**6)).lower(1.0).compile()
    assert not hits
