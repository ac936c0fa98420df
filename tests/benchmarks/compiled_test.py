"""The suite of compiled programs: which ones, and how their rows read."""

import dataclasses
import time

import pytest

from benchmarks import cases, compiled, isolated, plan

FOUND = {
    "program": "train",
    "batch_size": 32,
    "mesh": [8, 1],
    "compile_seconds": 12.3,
    "memory": {"total": 3 * 2**30, "fits": True},
    "flops": 4.5e12,
    "bytes": {"convolutions": 3e9, "products": 1e9, "other": 7e9, "turned": 5e8},
    "collectives": {"all-reduce": (40, 124e6)},
    "least_seconds": {"products": 4.5e-3, "memory": 2.3e-3, "links": None},
}


def make_plan(quick=False, seconds=60):
    return plan.Plan("cpu", quick, 0.1, time.monotonic() + seconds)


def test_a_row_is_for_one_device():
    assert compiled.cells("covidqu", FOUND) == {
        "config": "covidqu",
        "program": "train",
        "batch": "4",
        "memory, GiB": "3.00",
        "TFLOP": "4.500",
        "GB in convolutions": "3.00",
        "GB outside": "8.00 (2.000 each)",
        "of it turned": "0.50",
        "sent": "40 all-reduce: 124.0 MB",
        "products, ms": "4.50",
        "memory, ms": "2.30",
        "links, ms": "",
        "compiled in": "12 s",
    }
    too_large = FOUND | {"memory": {"total": 2**40, "fits": False}, "collectives": {}}
    row = compiled.cells("covidqu", too_large)
    assert (row["memory, GiB"], row["sent"]) == ("1024.00, does not fit", "nothing")


def test_every_case_is_compiled_for_every_target_those_for_tpus_last(monkeypatch):
    asked = []

    def call(function, *, limit_s, environ, **arguments):
        assert function is compiled.measure
        asked.append((arguments["target"], arguments["config"], arguments["program"]))
        return FOUND

    monkeypatch.setattr(isolated, "call", call)
    rows = list(compiled.run(make_plan()))
    assert len(rows) == len(asked)
    assert [target for target, *_ in asked] == sorted(target for target, *_ in asked)
    trained = [each for each in asked if each[2] == "train"]
    assert len(trained) == len(cases.COMPILED) * len(compiled.TARGETS)
    assert ("h200", "covidqu", "validate") in asked
    assert ("h200", "covid19_ct", "predict") in asked
    assert len(asked) == len(set(map(str, compiled.chosen(make_plan()))))


def test_only_what_is_asked_for_is_compiled():
    def chosen(*only):
        settings = dataclasses.replace(make_plan(), only=only)
        return [
            (target, case.name, case.fields["data.batch_size"], program)
            for target, case, program in compiled.chosen(settings)
        ]

    assert {target for target, *_ in chosen("h200")} == {"h200"}
    assert chosen("v5e:2x2/covidqu/4", "h200:8/covidqu/16/train", "h200/covidqu/64/predict") == [
        ("h200", "covidqu", 64, "predict"),
        ("h200:8", "covidqu", 16, "train"),
        ("v5e:2x2", "covidqu", 4, "train"),
    ]
    with pytest.raises(ValueError, match="--only: got 'h200/covid', want some of h200/covidqu/64/"):
        chosen("h200", "h200/covid")


def test_a_program_that_was_not_compiled_is_told(monkeypatch):
    def call(function, **_):
        raise isolated.FailedError("ValueError: JAX's compiler for TPUs is not installed")

    monkeypatch.setattr(isolated, "call", call)
    (row,) = compiled.run(make_plan(quick=True))
    assert row.cells["compiled in"].startswith("not compiled: ValueError: JAX's compiler")
    (row,) = compiled.run(make_plan(quick=True, seconds=-1))
    assert row.cells["compiled in"] == "not compiled: no time was left"


def test_the_batch_is_that_of_a_device(monkeypatch):
    target = type("Target", (), {"devices": (0, 1, 2)})
    monkeypatch.setattr(compiled.targets, "describe", lambda name: target)
    monkeypatch.setattr(compiled.compiled, "table", lambda found: "")
    monkeypatch.setattr(
        compiled.compiled,
        "run",
        lambda config, target, programs: [
            {"batch": config.data.batch_size, "eval": config.data.eval_batch_size}
        ],
    )
    fields = {"data.batch_size": 4, "data.eval_batch_size": 2}
    found = compiled.measure("covidqu:quick", fields, "h200:3", "train")
    assert found == {"batch": 12, "eval": 6}


@pytest.mark.parametrize("case", cases.COMPILED, ids=lambda case: f"{case.name}, {case.fields}")
def test_every_case_is_of_a_config(case):
    assert cases.load(**case.arguments).model.dtype == "bfloat16"
