"""Estimates the time of a training step on several devices from public figures.

    python -m benchmarks.scaling_model                             # the tables of docs/scaling.md
    python -m benchmarks.scaling_model --machine=h200 --compute_ms=covidqu=11.8     # measured
    python -m benchmarks.scaling_model --overlap=0.5 --share_of_link=0.8

Nothing is measured here. For n devices that share a batch,

    t(n) = compute + max(0, gradients(n) - overlap * compute) + small(n)
    gradients(n) = 2 (n - 1) / n * 4 P / (link * share_of_link)         ring all-reduce, float32
    small(n) = small reductions * latency, for n > 1                    statistics of BatchNorm

where P is the number of parameters, and compute is FLOPs / (peak * share_of_peak) or measured.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence

from jaxlung.benchmark import device_peaks


@dataclasses.dataclass(frozen=True)
class Network:
    """A config, as `--dry_run` and its compiled program for four devices describe it.

    Attributes:
        parameters: number of parameters, P.
        flops: FLOPs of a training step per image or patch.
        batch: images or patches per step in the config, as in the paper.
        small_reductions: all-reduces per step other than those of the gradients.
    """

    parameters: int
    flops: float
    batch: int
    small_reductions: int


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices and the links between them.

    Attributes:
        peak: FLOP/s of a device in bfloat16, without sparsity.
        link: bytes/s that a device sends over all its links together, in one direction.
        latency: seconds of an all-reduce of a few bytes.
        sizes: numbers of devices to estimate.
    """

    peak: float
    link: float
    latency: float
    sizes: tuple[int, ...]


NETWORKS = {
    "covidqu": Network(31_036_482, 281.68e9, 16, 38),
    "covidqu_residual": Network(31_736_834, 284.92e9, 16, 38),
    "cxr_lungs": Network(99_587, 21.86e9, 16, 2),
    "v7_lungs": Network(31_032_837, 282.41e9, 32, 1),
    "v7_diagnosis": Network(14_027_841, 1.81e9, 32, 1),
    "covid19_ct": Network(14_072_790, 441.41e9, 5, 50),
}

# Links: MLPerf's system descriptions (H200: NVLink 900 GB/s, both directions together) and
# docs.cloud.google.com/tpu/docs/v5e and /v6e (ICI 400 and 800 GB/s a chip, both directions).
# Latencies: our assumption.
MACHINES = {
    "h200": Machine(device_peaks.PEAKS["H200"].bfloat16, 450e9, 20e-6, (1, 2, 4, 8)),
    "v5e": Machine(device_peaks.PEAKS["TPU v5e"].bfloat16, 200e9, 10e-6, (1, 4, 8, 16, 64, 256)),
    "v6e": Machine(device_peaks.PEAKS["TPU v6e"].bfloat16, 400e9, 10e-6, (1, 4, 8, 16, 64, 256)),
}


def compute_seconds(
    network: Network, machine: Machine, batch: float, share_of_peak: float
) -> float:
    """Returns the seconds of arithmetic for `batch` images or patches on one device."""
    return batch * network.flops / (machine.peak * share_of_peak)


def ring_seconds(num_bytes: float, num_devices: int, bandwidth: float) -> float:
    """Returns the seconds of a ring all-reduce: every device sends 2 (n - 1) / n of the bytes."""
    return 2 * (num_devices - 1) / num_devices * num_bytes / bandwidth


def step_seconds(
    network: Network,
    machine: Machine,
    num_devices: int,
    compute: float,
    *,
    overlap: float = 0.0,
    share_of_link: float = 0.5,
) -> float:
    """Returns the seconds of a step that `num_devices` share.

    Args:
        network: the network; its gradients are reduced as float32.
        machine: the devices and their links.
        num_devices: number of devices that split the batch.
        compute: seconds of arithmetic on each device.
        overlap: share of `compute` during which gradients can be reduced, in [0, 1].
        share_of_link: share of `machine.link` that an all-reduce attains, in (0, 1].
    """
    if num_devices == 1:
        return compute
    bandwidth = machine.link * share_of_link
    gradients = ring_seconds(4 * network.parameters, num_devices, bandwidth)
    small = network.small_reductions * machine.latency
    return compute + max(0.0, gradients - overlap * compute) + small


def table(machine_name: str, flags: argparse.Namespace, measured: Mapping[str, float]) -> str:
    """Returns Markdown with a row for each network and a column for each number of devices.

    A cell has the milliseconds per step and the efficiency with the config's batch on every device;
    then the speed-up over one device if all devices share the config's batch, if they can evenly.
    """
    machine = MACHINES[machine_name]
    lines = [
        f"| {machine_name} | " + " | ".join(f"n = {n}" for n in machine.sizes) + " |",
        "|---" * (len(machine.sizes) + 1) + "|",
    ]
    for name, network in NETWORKS.items():
        alone = measured.get(name) or compute_seconds(
            network, machine, network.batch, flags.share_of_peak
        )
        cells = [cell(network, machine, n, alone, flags) for n in machine.sizes]
        lines.append(f"| {name}, batch {network.batch} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(
    network: Network, machine: Machine, n: int, alone: float, flags: argparse.Namespace
) -> str:
    """Returns a cell of `table`, "11.4 ms, 92 %, 1.9 x"; `alone` is the time on one device."""
    settings = {"overlap": flags.overlap, "share_of_link": flags.share_of_link}
    step = step_seconds(network, machine, n, alone, **settings)
    text = f"{1e3 * step:.2f} ms, {100 * alone / step:.0f} %"
    if n > 1 and network.batch % n == 0:
        text += f", {alone / step_seconds(network, machine, n, alone / n, **settings):.1f} x"
    return text


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, float]]:
    """Returns the flags, and the measured seconds of a step on one device by network."""
    parser = argparse.ArgumentParser("scaling_model", description=__doc__.splitlines()[0])
    parser.add_argument("--machine", choices=MACHINES, help="only this machine")
    parser.add_argument(
        "--share_of_peak", type=float, default=0.4, help="assumed share of the peak FLOP/s"
    )
    parser.add_argument(
        "--share_of_link", type=float, default=0.5, help="assumed share of the bytes/s"
    )
    parser.add_argument(
        "--overlap",
        type=float,
        default=0.0,
        help="assumed share of compute during which gradients are reduced",
    )
    parser.add_argument(
        "--compute_ms",
        action="append",
        default=[],
        metavar="CONFIG=MS",
        help="measured time of a step on one device at the config's batch; needs --machine",
    )
    flags = parser.parse_args(argv)
    for name, least in (("share_of_peak", 1e-6), ("share_of_link", 1e-6), ("overlap", 0.0)):
        if not least <= getattr(flags, name) <= 1:
            parser.error(f"--{name}: got {getattr(flags, name)}, want {least:g} to 1.")
    if flags.compute_ms and not flags.machine:
        parser.error("--compute_ms: want --machine too, the machine that it was measured on.")
    measured = {}
    for item in flags.compute_ms:
        name, _, text = item.partition("=")
        if name not in NETWORKS or not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
            parser.error(f"--compute_ms: got {item!r}, want one of {', '.join(NETWORKS)}=MS.")
        measured[name] = float(text) / 1e3
    return flags, measured


def main(argv: Sequence[str]) -> None:
    """Prints the tables."""
    flags, measured = parse(argv)
    for name in [flags.machine] if flags.machine else MACHINES:
        print(table(name, flags, measured) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
