"""The benchmark of an accelerator: what it writes, when, and what a failure or a kill leaves."""

import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import pytest

from benchmarks import accelerator, isolated, lines, numerics, page
from benchmarks.peers import cases, protocol
from jaxlung.parallel import sharding
from jaxlung.training import system as system_lib

ROOT = pathlib.Path(accelerator.__file__).parents[1]
MADE = dict(flops=1e12, memory_bytes=2**30, compile_seconds=40.0, first_seconds=45.0)
KINDS = {"convolution, forward": 5.0, "reduction": 2.0}


class FakeSide:
    """A worker whose steps take 10 ms; requests in `fails` fail."""

    def __init__(self, fails=()):
        self.fails, self.asked = fails, []

    def start(self):
        """Nothing."""

    close = start

    def ask(self, do, **request):
        self.asked.append((do, request))
        if do in self.fails:
            raise protocol.Refused(f"{do} was killed after 120 s")
        if do == "hello":
            versions = {"jax": "0.11", "torch": "2.11"}
            return {"platform": "gpu", "device": "NVIDIA H200", "versions": versions}
        if do == "profile":
            return {"ms_by_kind": KINDS, "kernels": []}
        return MADE

    def run(self, steps):
        return self.ask("run") and {"seconds": 0.01 * steps, "steps": steps}


def make_bench(out, ours=None, theirs=None, left=1000.0, arguments=()):
    args = accelerator.parse([str(out), "--quick", "--seconds=0.1", *arguments])
    report = lines.Report(out, time.monotonic())
    bench = accelerator.Bench(args, report, time.monotonic() + left)
    bench.ours, bench.theirs = ours or FakeSide(), theirs or FakeSide()
    bench.describe()
    return bench


def tables(bench):
    return [row.table for row in bench.report.findings]


def test_ours_comes_first_then_its_kernels_then_pytorch(tmp_path, capsys):
    bench = make_bench(tmp_path)
    bench.peers()
    each = [accelerator.STEPS, accelerator.KINDS, accelerator.PEERS]
    assert tables(bench) == ["Machine", *each, *each]
    text = (tmp_path / "accelerator.md").read_text()
    # By hand: 4 images in 10 ms are 400 a second; 1 TFLOP in 10 ms is a tenth of 989 TFLOP/s.
    row = "| quick | as shipped | bfloat16 | 400.0 (400.0 to 400.0) | 10.00 | 100 | 10.1% | 1.00 |"
    assert row in text
    assert "| 5.00 | 2.00 |" in text
    assert "| 1.00 (1.00 to 1.00) | 45 and 45 |" in text
    assert "| PyTorch 2.11 per s |" in text
    out = capsys.readouterr().out
    assert "per s 400.0" in out
    assert out.count("\n") > len(bench.report.findings)  # Also a line before each.


def test_a_failure_is_a_row_and_the_next_case_begins(tmp_path):
    bench = make_bench(tmp_path, theirs=FakeSide({"make"}))
    bench.peers()
    texts = [row.text for row in bench.report.findings if row.table == accelerator.PEERS]
    assert texts == [
        f"{case}: not measured: make was killed after 120 s" for case in ("quick", "quick_ct")
    ]
    bench = make_bench(tmp_path / "other", ours=FakeSide({"run"}))
    bench.each([accelerator.Form("quick"), accelerator.Form("quick_ct")])
    assert tables(bench) == ["Machine", accelerator.STEPS, accelerator.STEPS]
    bench = make_bench(tmp_path / "third", ours=FakeSide({"profile"}))
    bench.each([accelerator.Form("quick")])
    assert tables(bench)[1:] == [accelerator.STEPS, accelerator.KINDS]


def test_forms_are_asked_for_with_their_fields_and_options(tmp_path):
    bench = make_bench(tmp_path)
    bench.each([accelerator.Form("quick", "f", {"step.remat": True}, {"xla_a": 1}, "float32")])
    (request,) = [request for do, request in bench.ours.asked if do == "make"]
    assert request["fields"] == {"step.remat": True}
    assert (request["xla"], request["dtype"]) == ({"xla_a": 1}, "float32")


def test_nothing_begins_after_the_end_and_no_request_outlasts_it(tmp_path):
    bench = make_bench(tmp_path, left=0.0)
    bench.peers()
    bench.each(accelerator.QUICK_FORMS)
    assert tables(bench) == ["Machine"]
    assert bench.limit("make") == 0.1
    patient = make_bench(tmp_path, arguments=["--patience=2"])
    assert patient.limit("make") == 2 * accelerator.LIMITS["make"]
    assert make_bench(tmp_path, left=50.0).limit("make") <= 50


def test_graphs_are_timed_by_the_python_that_has_pytorch(tmp_path, monkeypatch):
    def fake_lines(module, arguments, limit_s, python):
        assert (module, python) == ("benchmarks.peers.conv_graphs", "torch_python")
        yield json.dumps({"graph": "forward, sums", "channels": 64, "ms": 0.5, "gains_ms": -0.1})
        raise isolated.FailedError("stopped after 120 s")

    monkeypatch.setattr(isolated, "lines", fake_lines)
    bench = make_bench(tmp_path, arguments=["--torch_python=torch_python"])
    bench.graphs()
    text = (tmp_path / "accelerator.md").read_text()
    assert "| forward, sums | 64 | 0.500 | -0.100 |" in text
    assert "not measured: stopped after 120 s" in text


def test_a_module_is_run_by_another_python(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho other\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    first, *_ = isolated.lines("this", [], 60, python=str(python))
    assert first == "other\n"


def test_half_a_line_is_dropped_and_the_page_is_written_again(tmp_path):
    bench = make_bench(tmp_path)
    bench.each(accelerator.QUICK_FORMS)
    text = (tmp_path / "accelerator.md").read_text()
    (tmp_path / "accelerator.md").unlink()
    with (tmp_path / "lines.jsonl").open("a") as file:
        file.write('{"table": "Tra')
    assert accelerator.main([str(tmp_path), "--render"]) == 0
    assert (tmp_path / "accelerator.md").read_text() == text


def test_a_part_that_fails_is_a_row_and_the_next_one_begins(tmp_path):
    bench = make_bench(tmp_path)
    bench.parts["forms"] = lambda: 1 / 0
    bench.run("forms")
    bench.run("peers")
    assert tables(bench)[1:3] == ["Not measured", accelerator.STEPS]
    assert "forms: not measured: division by zero" in (tmp_path / "accelerator.md").read_text()


def test_a_quarter_of_an_hour_is_enough_for_the_first_five_parts(tmp_path):
    # Seconds that an H200 took or, for numerics, may take at most.
    by_case = {
        "covidqu_256_b64": 74,
        "nnunet_form_b2": 54,
        "covidqu_256_b16": 16,
        "covid19_ct_8x128x128_b5": 66,
    }
    seconds = {
        "start": 5,
        "peers": 245,
        "epochs": 67,
        "numerics": accelerator.LIMITS["numerics"]
        * math.ceil(len(numerics.CHANGES) / numerics.WORKERS),
        "cases": sum(by_case[form.case] for form in accelerator.CASES),
        "forms": sum(by_case[form.case] for form in accelerator.FORMS),
    }
    first_five = list(make_bench(tmp_path).parts)[:5]
    assert ["start", *first_five] == list(seconds)
    assert sum(seconds.values()) <= accelerator.parse([str(tmp_path)]).limit_s


def test_unknown_parts_list_the_choices(tmp_path, capsys):
    assert accelerator.main([str(tmp_path), "--parts=peers,epoch"]) == 2
    assert "got epoch, want some of peers, epochs, numerics" in capsys.readouterr().out


def test_a_worker_is_killed_at_its_limit_and_started_again(tmp_path, monkeypatch):
    (tmp_path / "sleeper.py").write_text(
        "import time\n"
        "from benchmarks.peers import protocol\n"
        "protocol.serve({'sleep': lambda s: time.sleep(s) or {'slept': s}})\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    side = protocol.Side(sys.executable, "sleeper", lambda do: 20.0)
    assert side.ask("sleep", s=0) == {"slept": 0}
    side._limit = lambda do: 1.0
    with pytest.raises(protocol.Refused, match="was killed after 1 s in 'sleep'"):
        side.ask("sleep", s=60)
    side._limit = lambda do: 20.0
    assert side.ask("sleep", s=0) == {"slept": 0}
    side.close()


MANY = """
import sys, time
from benchmarks import accelerator, isolated, lines, page
accelerator.Bench.describe = lambda self: None

def each(self, forms):
    for i in range(10_000):
        self.report.add(page.Finding("T", {"i": str(i)}, i))

accelerator.Bench.each = each
accelerator.main([sys.argv[1], "--parts=forms"])
"""


@pytest.mark.parametrize("wait", [0.01, 0.23])
def test_a_kill_at_any_moment_leaves_what_was_measured(tmp_path, wait):
    path = tmp_path / "lines.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", MANY, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    said = [line.split()[-1] for line in out.splitlines() if " i " in line]
    kept = [row.numbers for row in lines.read(tmp_path)]
    # All that it said is there; the line in progress may be too.
    assert kept == list(range(len(kept)))
    assert len(kept) - len(said) in (0, 1)
    page_path = tmp_path / "accelerator.md"
    text = page_path.read_text() if page_path.exists() else ""
    shown = [int(row) for row in re.findall(r"^\| (\d+) \|$", text, re.MULTILINE)]
    assert shown == list(range(len(shown)))
    assert len(kept) - len(shown) in (0, 1)


def test_every_form_is_a_config_that_can_be(monkeypatch):
    monkeypatch.setattr(sharding, "visible_devices", lambda: jax.devices()[:1])
    names = [*accelerator.PEER_CASES, *accelerator.QUICK_CASES]
    forms = [*map(accelerator.Form, names), *accelerator.FORMS, *accelerator.QUICK_FORMS]
    for form in [*forms, *accelerator.CASES, *accelerator.SIZES]:
        config = accelerator.load(form)
        config.update_from_flattened_dict(dict(form.fields))
        assert config.model.dtype == form.dtype
        system_lib.make_system(config)
        json.dumps(form.fields | form.xla)


def test_pytorch_has_the_form_of_nnunet(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(sharding, "visible_devices", lambda: jax.devices()[:1])
    from benchmarks.peers import torch_networks

    config = accelerator.load(accelerator.Form("nnunet_form_b2"))
    with torch.device("meta"):
        model = torch_networks.make_network(config.model_name, config.model.to_dict(), "")
    params = system_lib.make_system(config).abstract_params()
    want = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sum(x.numel() for x in model.parameters()) == want
    assert cases.find("nnunet_form_b2").changes["data.batch_size"] == 2


def test_a_page_has_the_goals_even_before_a_measurement(tmp_path):
    lines.write_page(tmp_path, [page.Finding("T", {"a": "1"})])
    text = (tmp_path / "accelerator.md").read_text()
    assert text.index("| 1 |") < text.index("Goals")
