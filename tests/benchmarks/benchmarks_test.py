"""The benchmark suites: what they write and where, and what happens when a measurement fails."""

import json
import os
import pathlib
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest

from benchmarks import (
    cases,
    ensembles,
    epochs,
    files,
    goals,
    isolated,
    isolated_call,
    machine,
    numerics,
    page,
    plan,
    run,
    step,
)
from jaxlung.parallel import sharding
from jaxlung.training import journal
from jaxlung.training import system as system_lib

GPU = """# Title

prose before

<!-- suite: step -->
<!-- accelerator: 1-x-h200 -->
### 1 x H200

| a |
| --- |
| 7 |
<!-- end -->

prose after
"""


def fake_machine(platform="cpu", device="Some(R) CPU @ 2 GHz", count=2):
    versions = {"python": "3.11", "jax": "0.10"}
    return dict(platform=platform, device=device, count=count, cores=2, date="d", versions=versions)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Runs a suite of given findings on a given machine; returns page and JSON folder."""

    def write(findings, described, *flags):
        monkeypatch.setattr(isolated, "call", lambda *_, **__: described)
        monkeypatch.setitem(run.SUITES, "step", lambda settings: iter(findings))
        path = tmp_path / "page.md"
        run.main(["--suite=step", f"--page={path}", f"--json={tmp_path}", *flags])
        return path

    return write


def test_a_suite_runs_whole_and_leaves_the_rest_of_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "QUICK", cases.QUICK[:1])
    monkeypatch.setattr(step, "NO_CACHE", {"JAX_COMPILATION_CACHE_DIR": _cache_dir()})
    path = tmp_path / "page.md"
    path.write_text(GPU)
    run.main(["--suite=step", "--quick", f"--page={path}", f"--json={tmp_path}/json"])
    text = path.read_text()
    head, _, tail = GPU.partition("<!-- end -->")
    assert text.startswith(head.rstrip())
    assert text.endswith("<!-- end -->" + tail)
    (file,) = (tmp_path / "json").iterdir()
    result = json.loads(file.read_text())
    (row,) = [row["found"] for row in result["rows"]]
    rate = row["step_images_per_s"]["median"]
    assert f"| covidqu quick | 32 x 32 | 4 | float32 | {rate:,.1f} (" in text
    assert rate == pytest.approx(row["config"]["batch_size"] / row["step_seconds"])
    assert result["whole"]
    assert "rows are missing" not in text
    assert f"<!-- device: {file.stem.removeprefix('step-')} -->" in text
    assert "python -m benchmarks.run --suite=step --quick" in text
    assert f"jax {jax.__version__}" in text


def _cache_dir():
    return jax.config.jax_compilation_cache_dir or os.devnull


def test_the_same_twice_is_the_same_page_and_another_device_has_its_own_place(written):
    findings = [page.Finding("T", {"a": "1"}, 1)]
    path = written(findings, fake_machine())
    once = path.read_text()
    assert page.NOT_MEASURED in once
    assert written(findings, fake_machine()).read_text() == once
    with_gpu = written(findings, fake_machine("gpu", "NVIDIA H200", 1)).read_text()
    assert page.NOT_MEASURED not in with_gpu
    assert with_gpu.count("| 1 |") == 2
    assert written(findings, fake_machine()).read_text() == with_gpu
    again = written([page.Finding("T", {"a": "2"}, 2)], fake_machine()).read_text()
    assert again == with_gpu.replace("| 1 |", "| 2 |", 1)
    names = {file.name for file in path.parent.glob("*.json")}
    assert names == {"step-1-x-nvidia-h200.json", "step-2-cpu-cores-some-cpu-2-ghz.json"}


def test_an_ensembles_time_is_that_of_one_network_measured_in_turn():
    case = {"config": "cxr_lungs", "files": 8, "side": 64}
    first = {"seconds": 2.0, "programs": 1, "bytes": 2**29, "where": "process"}
    row = ensembles._row(case, 2, {"1": [8.0, 10.0], "2": [4.0, 10.0]}, first)
    assert row.numbers["time_ratio"] == [2.0, 1.0]
    assert row.cells["time, of one network's"] == "1.50 (1.00 to 2.00)"
    assert row.cells["memory, GiB"] == "0.50 (process)"
    assert row.cells["cxr_lungs"] == "2 networks"


def test_rows_are_on_the_page_before_the_suite_ends(written, tmp_path):
    def findings():
        yield page.Finding("T", {"a": "1"}, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(findings(), fake_machine())
    text = (tmp_path / "page.md").read_text()
    assert "| 1 |" in text
    assert "rows are missing" in text
    (file,) = tmp_path.glob("*.json")
    assert not json.loads(file.read_text())["whole"]


def test_a_new_suite_gets_a_block_at_the_pages_end():
    text = page.update("# Title\n", "peers", "cpu", "body", is_accelerator=False)
    assert text.startswith(
        "# Title\n\n## peers\n\n<!-- suite: peers -->\n<!-- device: cpu -->\nbody"
    )
    assert page.update(GPU, "peers", "cpu", "body", is_accelerator=False).startswith(GPU.rstrip())


def test_a_block_without_an_end_is_told():
    with pytest.raises(ValueError, match="want '<!-- end -->'"):
        page.update(
            "<!-- suite: a -->\n<!-- suite: b -->\n<!-- end -->", "a", "x", "", is_accelerator=False
        )


def test_tables_hold_all_columns_and_texts_come_after():
    findings = [
        page.Finding("T", {"a": "1", "b": "x|y"}),
        page.Finding("U", text="words"),
        page.Finding("T", {"b": "2", "c": "3"}),
    ]
    table = "| a | b | c |\n| --- | --- | --- |\n| 1 | x/y |  |\n|  | 2 | 3 |"
    assert page.section(findings) == f"**T**\n\n{table}\n\n**U**\n\nwords"


def test_kinds_and_numbers_of_devices_have_names_of_their_own():
    slugs = {
        machine.slug(fake_machine(*each))
        for each in (("cpu", "A", 1), ("cpu", "A", 2), ("gpu", "A", 1), ("gpu", "B", 1))
    }
    assert len(slugs) == 4
    assert machine.title(fake_machine("gpu", "NVIDIA H200", 8)) == "8 x NVIDIA H200"


def halve(number):
    """For a process of its own."""
    print("noise")
    return {"half": number / 2, "kind": type(number).__name__}


def fail(words):
    """For a process of its own."""
    raise ValueError(f"{' '.join(words)}\nmore")


def hang(path):
    """For a process of its own; starts another one."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pathlib.Path(path).write_text(str(child.pid))
    time.sleep(60)


def wait(path):
    """For a process of its own."""
    pathlib.Path(path).write_text(str(os.getpid()))
    time.sleep(60)


def crash():
    """For a process of its own."""
    os._exit(3)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """`call` of a function in this file, from a module without JAX."""
    source = pathlib.Path(__file__).read_text()
    body = source[source.index("def halve(") : source.index("@pytest.fixture\ndef elsewhere")]
    (tmp_path / "elsewhere.py").write_text(f"import os, pathlib, subprocess, sys, time\n\n{body}")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{pathlib.Path(__file__).parents[2]}")

    def call(name, limit_s=60.0, **arguments):
        function = types.SimpleNamespace(__module__="elsewhere", __name__=name)
        return isolated.call(function, limit_s=limit_s, **arguments)

    return call


def test_a_function_in_another_process_answers(elsewhere):
    assert elsewhere("halve", number=5) == {"half": 2.5, "kind": "int"}


def test_failures_elsewhere_are_reasons(elsewhere):
    with pytest.raises(isolated.FailedError, match=r"^ValueError: not so$"):
        elsewhere("fail", words=["not", "so"])
    with pytest.raises(isolated.FailedError, match="ended with code 3"):
        elsewhere("crash")


def test_what_hangs_is_stopped_with_what_it_started(elsewhere, tmp_path):
    path = tmp_path / "pid"
    with pytest.raises(isolated.FailedError, match="stopped after 3 s"):
        elsewhere("hang", limit_s=3.0, path=str(path))
    _assert_ends(path.read_text())


def _assert_ends(pid):
    state = pathlib.Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and state.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_lines_come_before_the_end_and_stay_when_time_is_over(elsewhere, tmp_path):
    (tmp_path / "ticking.py").write_text(TICKING)
    lines = isolated.lines("ticking", ["7"], limit_s=20.0)
    begin = time.monotonic()
    assert next(lines) == "first 7\n"
    assert time.monotonic() - begin < 15
    lines.close()  # Stops it.
    lines = isolated.lines("ticking", ["8"], limit_s=5.0)
    assert next(lines) == "first 8\n"
    with pytest.raises(isolated.FailedError, match="stopped after 5 s"):
        next(lines)


TICKING = """
import sys, time
print("first", *sys.argv[1:], flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux does that")
def test_what_a_killed_process_started_ends_too(elsewhere, tmp_path):
    path = tmp_path / "pids"
    code = (
        "import types; from benchmarks import isolated; "
        "hang = types.SimpleNamespace(__module__='elsewhere', __name__='wait'); "
        f"isolated.call(hang, limit_s=60, path={str(path)!r})"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 40
    while not (path.exists() and path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    _assert_ends(path.read_text())


def test_nothing_begins_after_the_end():
    past = plan.Plan("cpu", True, 0.1, time.monotonic() - 1)
    with pytest.raises(isolated.FailedError, match="no time"):
        past.left()
    rows = list(step.run(past))
    assert len(rows) == len(cases.QUICK)
    assert all("not measured: no time was left" in row.cells["per second"] for row in rows)


def test_every_case_is_a_config_that_can_be(monkeypatch):
    monkeypatch.setattr(sharding, "visible_devices", lambda: jax.devices()[:1])
    for case in cases.QUICK + cases.CPU + cases.ACCELERATOR:
        arguments = isolated_call.read(json.dumps(case.arguments))
        settings = system_lib.make_system(cases.load(**arguments)).settings
        assert settings.batch_size == cases.load(**case.arguments).data.batch_size
    for name, fields in numerics.CHANGES.items():
        system_lib.make_system(cases.load(name, fields))


def test_nnunets_form_has_nnunets_size(monkeypatch):
    monkeypatch.setattr(sharding, "visible_devices", lambda: jax.devices()[:1])
    (case, *_) = [case for case in cases.ACCELERATOR if case.name == "nnU-Net form"]
    params = system_lib.make_system(cases.load(**case.arguments)).abstract_params()
    assert 30e6 < sum(leaf.size for leaf in jax.tree.leaves(params)) < 33e6


def test_differences_are_relative_and_nan_is_too_large():
    want = {"logits": np.array([3.0, 4.0])}
    assert numerics.differences({"logits": np.array([3.0, 4.5])}, want) == {"logits": 0.1}
    assert not numerics.make_row("c", "bfloat16", "logits", float("nan"), 1.0)["equal"]
    assert not numerics.make_row("c", "highest", "logits", 2e-4, 0.0)["equal"]
    assert numerics.make_row("c", "float32", "logits", 2e-4, 1.5e-4)["equal"]


def test_numbers_of_a_wrong_device_end_with_code_1(monkeypatch, capsys):
    def compare(config, fields):
        wrong = config == "covid19_ct:quick"
        return [numerics.make_row(config, "highest", "loss", 1e-3 if wrong else 0.0, 0.0)]

    monkeypatch.setattr(numerics, "compare", compare)
    assert numerics.main(["--quick", "--configs=covidqu,covid19_ct"]) == 1
    assert capsys.readouterr().out.count("**too large**") == 1
    assert numerics.main(["--quick", "--configs=covidqu"]) == 0


@pytest.mark.slow
def test_files_are_predicted_and_decoded():
    rates = files.measure("cxr_lungs:quick", {}, num_files=2, side=64, seconds=0.0)
    assert rates.keys() == {"predict", "decode"}
    assert min(rates["predict"] + rates["decode"]) > 0


@pytest.mark.slow
def test_the_cpu_agrees_with_itself_and_not_with_other_weights(monkeypatch):
    fields = {"data.batch_size": 16, "data.eval_batch_size": 16}
    assert all(row["equal"] for row in numerics.compare("covidqu:quick", fields))
    compute, calls = numerics.compute, []

    def other(system, problem, device):
        calls.append(0)
        outputs = compute(system, problem, device)
        return outputs if len(calls) < 3 else outputs | {"gradients": 1.1 * outputs["gradients"]}

    monkeypatch.setattr(numerics, "compute", other)
    rows = numerics.compare("covidqu:quick", fields)
    bad = [(row["mode"], row["output"]) for row in rows if not row["equal"]]
    assert bad == [("highest", "gradients")]


def test_a_hundred_epochs_are_the_first_and_99_like_the_others(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(epochs.time, "perf_counter", lambda: now[0])

    def train(config, path, splits):
        assert [len(splits[name]) for name in ("train", "validation")] == [64, 16]
        assert len(splits["train"].people()) == 64
        notes = journal.Journal(
            types.SimpleNamespace(write=lambda row: None),
            num_epochs=config.epochs,
            unit="images",
            batch_size=4,
            first_step=0,
            total_steps=3,
            epoch_steps=[],
            score=("f1", lambda confusion: 0.0),
        )
        for seconds in (30.0, 2.0, 4.0):
            now[0] += seconds
            notes.epoch_steps = [[1.0, 1.0, [[1]]]]
            notes.end_epoch(1, 1.0, journal.Means(1.0, 1.0, 1.0), 0.1)

    monkeypatch.setattr(epochs.train, "train", train)
    found = epochs.measure("covidqu:quick", {}, (64, 16), 3)
    printed = [json.loads(line)["seconds"] for line in capsys.readouterr().out.splitlines()]
    assert printed == [30, 2, 4]
    assert found["first_epoch_seconds"] == 30
    assert found["epoch_seconds"] == [2, 4]
    assert found["images_per_s"] == pytest.approx(64 / 3)
    assert found["minutes_of_100_epochs"] == pytest.approx((30 + 99 * 3) / 60)


def test_goals_are_judged_by_what_was_measured():
    empty = [row.cells["measured"] for row in goals.find([])]
    assert empty == ["not measured"] * 4

    def step_row(case, dtype, rate):
        return {"case": case, "type": dtype, "rate": {"median": rate}}

    rows = [
        step_row("covidqu_256_b64", "bfloat16", 1500.0),
        step_row("covidqu_256_b16", "bfloat16", 2100.0),
        step_row("covidqu_256_b64", "float32", 9999.0),
        step_row("quick", "bfloat16", 9999.0),
        step_row("nnunet_form_b2", "bfloat16", 74.9),
        {"error": "no time was left"},
        {"images": [3728, 932], "minutes_of_100_epochs": 3.9},
        {"images": [64, 16], "minutes_of_100_epochs": 0.1},
        {"mode": "channels_last+autocast", "ratio": {"median": 0.5}},
        {"mode": "compile+channels_last+autocast", "ratio": {"median": 1.4}},
    ]
    found = goals.find([page.Finding("T", numbers=row) for row in rows])
    assert [(row.cells["measured"], row.cells[""]) for row in found] == [
        ("2,100.0", "reached"),
        ("3.9", "reached"),
        ("74.9", "missed"),
        ("1.40", "missed"),
    ]
