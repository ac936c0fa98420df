"""Measures an accelerator in a quarter of an hour; what matters most comes first.

    bash benchmarks/accelerator.sh OUT                          # a GPU or a TPU
    bash benchmarks/accelerator.sh OUT --torch_python=PATH      # PyTorch from another environment
    bash benchmarks/accelerator.sh OUT --quick                  # tiny cases, also on a CPU
    bash benchmarks/accelerator.sh OUT --parts=epochs,numerics  # some parts

Everything that is measured is at once a line on stdout, a line of JSON in OUT/lines.jsonl, and a
row in OUT/accelerator.md, so a kill at any moment loses the case in progress only. `--render`
writes the page from the lines again. A case has a limit, after which its process is killed and the
next case begins; nothing begins after `--limit_s`.

Programs are compiled one at a time: XLA and cuDNN choose algorithms by timing them on the device,
and a second process there would spoil their choice. Only `numerics`, which times nothing, compiles
networks side by side. All parts share a fresh cache of compiled
programs, or that of JAX_COMPILATION_CACHE_DIR. One GPU is used.

OUT/log.txt has what the processes wrote to stderr. Exit code: 0; 1 if `numerics` found a wrong
result, or JAX doesn't start; 2 for a bad command line; 143 after SIGTERM.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import goals, inference, input, isolated, lines, numerics, page, plan
from benchmarks.commands import layers
from benchmarks.peers import cases, measure, protocol
from jaxlung.benchmark import device_peaks

NHWC, CONV_FUSION = "xla_gpu_force_conv_nhwc", "xla_gpu_experimental_enable_conv_fusion"
PEERS = "jaxlung and compiled PyTorch in turn, bfloat16"
STEPS = "Training steps of jaxlung"
KINDS = "A step by kind of kernel, ms"
EPOCHS = "A whole run of 000, batch 16, 3,728 training and 932 validation images"
GRAPHS = "Convolutions of cuDNN with BatchNorm's sums and ReLU's mask in the same kernel, bfloat16"
NUMERICS = "Differences from the CPU in float32, relative"
PYTORCH_MODE = ["compile", "channels_last", "autocast"]
# Seconds that a request or a part may take; a program that compiles longer is given up.
LIMITS = {"hello": 60, "make": 120, "run": 30, "profile": 40, "epochs": 120}
LIMITS |= {"numerics": 240, "graphs": 120}
PART_S = 60  # for each of the last parts
REPEATS = 3


@dataclasses.dataclass(frozen=True)
class Form:
    """A case of `peers.cases` and what to change.

    Attributes:
        case: its name.
        name: "": as shipped.
        fields: dotted field of the config -> value.
        xla: options of XLA on top of jaxlung's.
        dtype: dtype of the computation.
    """

    case: str
    name: str = ""
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    xla: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dtype: str = "bfloat16"


PEER_CASES = ("covidqu_256_b64", "nnunet_form_b2")
QUICK_CASES = ("quick", "quick_ct")
# Another form of a layer is a line here: its field of the config, or XLA's option.
FORMS = (
    Form("nnunet_form_b2", "channels first", xla={NHWC: False}),
    Form("nnunet_form_b2", "conv fusion", xla={CONV_FUSION: True}),
    Form("covidqu_256_b64", "conv fusion", xla={CONV_FUSION: True}),
    Form("covidqu_256_b64", "channels last forced", xla={NHWC: True}),
)
QUICK_FORMS = (Form("quick", "remat", fields={"step.remat": True}),)
CASES = (
    Form("covidqu_256_b16"),
    Form("covid19_ct_8x128x128_b5"),
)
SIZES = (
    Form("covidqu_256_b256"),
    Form("v7_lungs_256_b32"),
    Form("cxr_lungs_512_b16"),
    Form("covidqu_256_b64", dtype="float32"),
    Form("nnunet_form_b2", dtype="float32"),
)


class Bench:
    """The parts, in the order of their importance.

    The first five take a quarter of an hour on an H200.

    Args:
        args: the command line.
        report: gets what is measured.
        end: `time.monotonic()` after which nothing begins.
    """

    def __init__(self, args: argparse.Namespace, report: lines.Report, end: float) -> None:
        self.args, self.report, self.end = args, report, end
        self.wrong = False
        self.ours = protocol.Side(sys.executable, "benchmarks.peers.jax_worker", self.limit)
        self.theirs = protocol.Side(args.torch_python, "benchmarks.peers.torch_worker", self.limit)
        self.parts: dict[str, Callable[[], None]] = {
            "peers": self.peers,
            "epochs": self.epochs,
            "numerics": self.numerics,
            "cases": lambda: self.each(() if args.quick else CASES),
            "forms": lambda: self.each(QUICK_FORMS if args.quick else FORMS),
            "sizes": lambda: self.each(() if args.quick else SIZES),
            "graphs": self.graphs,
            "inference": lambda: self.suite("inference", inference.run),
            "layers": lambda: self.suite("layers", layers),
            "input": lambda: self.suite("input", input.run),
        }

    def run(self, name: str) -> None:
        """Runs a part, if there is time; its failure is a row."""
        if self.left() <= 0:
            self.report.add(page.Finding("Not measured", text=f"{name}: no time was left"))
            return
        try:
            self.parts[name]()
        except Exception as error:  # The next part may work.
            traceback.print_exc()
            self.report.add(page.unmeasured("Not measured", error, name))

    def left(self) -> float:
        """Returns the seconds that are left."""
        return self.end - time.monotonic()

    def limit(self, do: str) -> float:
        """Returns the seconds that a request or part may take."""
        return max(0.1, min(LIMITS.get(do, PART_S) * self.args.patience, self.left()))

    def describe(self) -> None:
        """Reports the device; without one nothing can be measured."""
        self.report.begin("starting JAX")
        try:
            self.device = self.ours.ask("hello")
        except protocol.Refused as error:
            sys.exit(f"JAX doesn't start: {error}")
        versions = ", ".join(f"{k} {v}" for k, v in self.device["versions"].items())
        text = f"{datetime.date.today()}, {self.device['device']}, {versions}"
        text += "; tiny cases, these figures mean nothing" * self.args.quick
        self.report.add(page.Finding("Machine", text=text, numbers=self.device))

    def peers(self) -> None:
        """Measures cases in turn with PyTorch: ours first, so that there is a figure."""
        for case in QUICK_CASES if self.args.quick else PEER_CASES:
            if self.left() <= 0:
                return
            self.theirs.start()
            if (made := self.one(Form(case))) is not None:
                self.beside_pytorch(case, made)
            self.theirs.close()

    def beside_pytorch(self, case: str, made: Mapping[str, Any]) -> None:
        """Measures what `ours` has made in turn with PyTorch."""
        words = PYTORCH_MODE[self.args.quick :]  # Compiling takes long on a CPU.
        row = {"case": case, "mode": "+".join(words)}
        try:
            self.report.begin(f"compiling {case} in PyTorch")
            hello = self.theirs.ask("hello")
            if hello["platform"] != self.device["platform"]:
                raise protocol.Refused(f"PyTorch runs on {hello['platform']}")
            sections = load(Form(case)).to_dict()
            theirs = self.theirs.ask(
                "make", sections=sections, network="", words=words, source="memory"
            )
            self.report.begin(f"measuring {case} in turn with PyTorch")
            rates = measure.alternate(
                self.ours.run,
                self.theirs.run,
                sections["data"]["batch_size"],
                self.args.seconds,
                REPEATS,
            )
        except protocol.Refused as error:
            self.report.add(page.unmeasured(PEERS, error, case))
            return
        cells = row | {
            "jaxlung per s": page.with_range(**rates["jax"], spec=",.1f"),
            f"PyTorch {hello['versions']['torch']} per s": page.with_range(
                **rates["torch"], spec=",.1f"
            ),
            "jaxlung / PyTorch": page.with_range(**rates["ratio"], spec=".2f"),
            "compile, s": f"{made['first_seconds']:.0f} and {theirs['first_seconds']:.0f}",
        }
        self.report.add(page.Finding(PEERS, cells, row | rates | hello))

    def each(self, forms: Sequence[Form]) -> None:
        """Measures forms one after the other."""
        for form in forms:
            if self.left() <= 0:
                return
            self.one(form)

    def one(self, form: Form) -> dict[str, Any] | None:
        """Compiles, times and profiles a form; returns facts of `make`, or None if it failed."""
        name = f"{form.case}, {form.name or 'as shipped'}, {form.dtype}"
        facts = {"case": form.case, "form": form.name or "as shipped", "type": form.dtype}
        try:
            self.report.begin(f"compiling {name}")
            made = self.ours.ask(
                "make", case=form.case, fields=form.fields, xla=form.xla, **options(form)
            )
            self.report.begin(f"measuring {name}")
            batch_size = load(form).data.batch_size
            rate = measure.alone(self.ours.run, batch_size, self.args.seconds, REPEATS)
        except protocol.Refused as error:
            self.report.add(page.unmeasured(STEPS, error, name))
            return None
        flops_per_s = made["flops"] * rate["median"] / batch_size
        peaks = device_peaks.find(self.device["device"])
        cells = facts | {
            "per s": page.with_range(**rate, spec=",.1f"),
            "ms": f"{1e3 * batch_size / rate['median']:.2f}",
            "TFLOP/s": f"{flops_per_s / 1e12:.3g}",
            "of peak": f"{flops_per_s / peaks.flops(form.dtype):.1%}" if peaks else "",
            "planned GiB": f"{made['memory_bytes'] / 2**30:.2f}",
            "compile, s": f"{made['compile_seconds']:.0f}",
        }
        self.report.add(page.Finding(STEPS, cells, facts | {"rate": rate} | made))
        self.profile(name, facts)
        return made

    def profile(self, name: str, facts: Mapping[str, str]) -> None:
        """Reports the kernels of what was measured last."""
        self.report.begin(f"profiling {name}")
        try:
            found = self.ours.ask("profile")
        except protocol.Refused as error:
            self.report.add(page.unmeasured(KINDS, error, name))
            return
        kinds = {kind: f"{ms:.2f}" for kind, ms in found["ms_by_kind"].items()}
        self.report.add(page.Finding(KINDS, {**facts, **kinds}, facts | found))

    def epochs(self) -> None:
        """Reports each epoch of a run as it ends, then the estimate for 100."""
        self.ours.close()  # It needs the memory.
        self.report.begin("training whole epochs")
        arguments = ["--quick"] * self.args.quick
        try:
            for line in isolated.lines("benchmarks.epochs", arguments, self.limit("epochs")):
                found = json.loads(line)
                self.report.add(page.Finding(EPOCHS, epoch_cells(found), found))
        except isolated.FailedError as error:
            self.report.add(page.unmeasured(EPOCHS, error))

    def graphs(self) -> None:
        """Reports what convolutions with more in their kernels would gain, by PyTorch's Python."""
        self.ours.close()
        self.report.begin("timing graphs of cuDNN")
        limit_s = self.limit("graphs")
        module = "benchmarks.peers.conv_graphs"
        arguments = [f"--limit_s={limit_s - 30:.0f}"]  # For the last graph to be compiled.
        try:
            for line in isolated.lines(module, arguments, limit_s, python=self.args.torch_python):
                found = json.loads(line)
                cells = {
                    name: f"{value:.3f}" if isinstance(value, float) else str(value)
                    for name, value in found.items()
                }
                self.report.add(page.Finding(GRAPHS, cells, found))
        except isolated.FailedError as error:
            self.report.add(page.unmeasured(GRAPHS, error))

    def numerics(self) -> None:
        """Compares all networks with the CPU, side by side."""
        self.ours.close()
        self.report.begin("comparing results with the CPU")
        names = numerics.QUICK if self.args.quick else tuple(numerics.CHANGES)
        with concurrent.futures.ThreadPoolExecutor(numerics.WORKERS) as pool:
            jobs = {pool.submit(self.compare, name): name for name in names}
            for job in concurrent.futures.as_completed(jobs):
                try:
                    rows = job.result()
                except isolated.FailedError as error:
                    self.report.add(page.unmeasured(NUMERICS, error, jobs[job]))
                    continue
                self.wrong |= not all(row["equal"] for row in rows)
                for row in rows:
                    self.report.add(page.Finding(NUMERICS, numerics.cells(row), row))

    def compare(self, name: str) -> list[dict[str, Any]]:
        """Compares one network in a process of its own."""
        return isolated.call(
            numerics.compare_by_name,
            limit_s=self.limit("numerics"),
            environ={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            name=name,
            quick=self.args.quick,
        )

    def suite(self, name: str, run: Callable[[plan.Plan], Iterator[page.Finding]]) -> None:
        """Runs a suite of `benchmarks.run`."""
        self.ours.close()
        self.report.begin(f"running {name}")
        end = time.monotonic() + self.limit(name)
        platform = self.device["platform"]
        for finding in run(plan.Plan(platform, self.args.quick, self.args.seconds / 3, end)):
            self.report.add(finding)

    def close(self) -> None:
        """Kills both sides."""
        self.ours.close()
        self.theirs.close()


def options(form: Form) -> dict[str, Any]:
    """Returns arguments of `cases.load_config`."""
    return {"dtype": form.dtype, "source": "memory", "num_threads": 4}


def load(form: Form) -> Any:
    """Returns the config of a form's case."""
    return cases.load_config(cases.find(form.case), **options(form))


def epoch_cells(found: Mapping[str, Any]) -> dict[str, str]:
    """Returns the row of a line of `benchmarks.epochs`."""
    if "epoch" in found:
        return {"": f"epoch {found['epoch']}", "seconds": f"{found['seconds']:.1f}"}
    minutes = found[f"minutes_of_{goals.EPOCHS}_epochs"]
    return {"": f"{goals.EPOCHS} epochs, estimated", "seconds": f"{60 * minutes:,.0f}"}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser("benchmarks.accelerator", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=pathlib.Path, help="folder for the results")
    parser.add_argument("--limit_s", type=float, default=900.0, help="nothing begins after this")
    parser.add_argument("--parts", default="", help="names, separated by commas; default: all")
    parser.add_argument("--torch_python", default=sys.executable, help="interpreter with PyTorch")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of each measurement")
    parser.add_argument("--patience", type=float, default=1.0, help="factor of all other limits")
    parser.add_argument("--quick", action="store_true", help="tiny cases: figures mean nothing")
    parser.add_argument("--render", action="store_true", help="write the page again, then stop")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Runs the command line; returns the exit code."""
    args = parse(argv)
    if args.render:
        lines.write_page(args.out, lines.read(args.out))
        return 0
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    begin = time.monotonic()
    report = lines.Report(args.out, begin)
    bench = Bench(args, report, begin + args.limit_s)
    names = args.parts.split(",") if args.parts else list(bench.parts)
    if unknown := set(names) - set(bench.parts):
        print(f"--parts: got {', '.join(unknown)}, want some of {', '.join(bench.parts)}.")
        return 2
    threading.Thread(target=report.watch, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="compiled-") as cache, contextlib.closing(bench):
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
        bench.describe()
        for name in names:
            bench.run(name)
    report.say(f"done: {args.out / 'accelerator.md'}")
    return int(bench.wrong)


def redirect_stderr(path: pathlib.Path) -> None:
    """Sends the stderr of this process, and of those that it starts, to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        os.dup2(file.fileno(), 2)


if __name__ == "__main__":
    # All is written; the processes that were started end with this one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os._exit(128 + number))
    redirect_stderr(parse(sys.argv[1:]).out / "log.txt")
    sys.exit(main(sys.argv[1:]))
