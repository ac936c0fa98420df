"""The whole benchmark: its table, its line of JSON, and rates by a clock that we set ourselves."""

import json
import types

import pytest

from benchmarks import cases
from jaxlung import benchmark
from jaxlung.benchmark import device_peaks

MADE_UP = device_peaks.Peaks(2e12, 1e12, 1e11, 1e9, "a data sheet")


def test_a_benchmark_returns_json_values_of_what_its_table_shows(capsys, tmp_path):
    trace = tmp_path / "trace"
    found = benchmark.run(cases.load("covidqu:quick", {}), seconds=0.01, profile_dir=str(trace))
    assert json.loads(json.dumps(found)) == found
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


def test_several_steps_at_once_are_counted_one_by_one_on_either_feed(monkeypatch, capsys):
    monkeypatch.setattr(device_peaks, "find", lambda kind: MADE_UP)
    fields = {"step.steps_per_dispatch": 2, "data.placement": "host"}
    found = benchmark.run(cases.load("covidqu:quick", fields), seconds=0.01)
    assert found["config"]["steps_per_dispatch"] == 2
    assert 0.9 < found["flops_per_step"] / (4 * 5_308_416) < 1
    want = 4 / found["step_images_per_s"]["median"]  # Seconds of a step of 4 images.
    assert found["step_seconds"] == pytest.approx(want)
    share = found["flops_per_step"] / 4 / found["step_seconds"] / 1e12
    assert found["peak"]["step_share"] == pytest.approx(share)
    assert "1.0 TFLOP/s (a data sheet)" in capsys.readouterr().out


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
