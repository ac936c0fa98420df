"""The table that a benchmark prints."""

from collections.abc import Mapping
from typing import Any

ROWS = {"input": "input alone", "step": "step alone", "training": "training: both together"}
_PLACES = {"device": "kept on the device", "host": "streamed by the host"}


def make(found: Mapping[str, Any]) -> str:
    """Returns the table, several lines of text.

    Args:
        found: the result of `benchmark.run`.
    """
    lines = [_head(found["config"]), "", *_rates(found), "", *_facts(found)]
    return "\n".join(lines) + "\n"


def _head(config: Mapping[str, Any]) -> str:
    return (
        f"{config['model']}, {config['dtype']}, batch {config['batch_size']} of "
        f"{' x '.join(map(str, config['input_shape']))}; {config['data']}, "
        f"{_PLACES[config['placement']]}; {config['num_devices']} x {config['device']} in "
        f"{config['num_processes']} process(es), jax {config['jax']}"
    )


def _rates(found: Mapping[str, Any]) -> list[str]:
    units = found["config"]["units"]
    columns = ("median", "min", "max", "per_device")
    lines = [f"{units + ' per second':26}" + "".join(f"{name:>12}" for name in columns)]
    for name, label in ROWS.items():
        rates = found[f"{name}_{units}_per_s"]
        lines.append(f"{label:26}" + "".join(f"{rates[column]:12.1f}" for column in columns))
    return lines


def _facts(found: Mapping[str, Any]) -> list[str]:
    seconds = dict(found["start_up_seconds"])
    total = seconds.pop("total")
    laps = ", ".join(f"{name.replace('_', ' ')} {lap:.1f}" for name, lap in seconds.items())
    cached = " (from the cache)" if found["compiled_step_from_cache"] else ""
    steps = found["config"]["steps_per_dispatch"]
    facts = {
        "training behind step": f"{found['gap_percent']:.1f} %, median of "
        f"{found['repeats']} repeats in turn",
        "time per step": f"{found['step_seconds'] * 1e3:.2f} ms alone, "
        f"{found['training_seconds'] * 1e3:.2f} ms in training; {steps} per dispatch",
        "start-up to first step": f"{total:.1f} s: {laps}{cached}",
        "parameters": f"{found['parameters']:,}",
        "work per step": _work(found),
        **_peak(found),
        "memory per device": _memory(found["memory"]),
    }
    if found["profile_dir"]:
        facts["trace"] = found["profile_dir"]
    return [f"{label:26}{fact}" for label, fact in facts.items()]


def _work(found: Mapping[str, Any]) -> str:
    """Returns a sentence with the FLOPs and, where XLA counts them, the bytes of a step."""
    text = f"{found['flops_per_step'] / 1e9:,.2f} GFLOP of convolutions and products"
    if found["bytes_per_device"]:
        text += f", {found['bytes_per_device'] / 1e9:,.3f} GB read and written per device"
    return text + f"; {found['flops_per_s_and_device'] / 1e9:,.1f} GFLOP/s per device"


def _peak(found: Mapping[str, Any]) -> dict[str, str]:
    peak, device = found["peak"], found["config"]["device"]
    if peak is None:
        return {"share of peak": f"unknown: no data sheet of {device!r} in device_peaks.py"}
    rows = {
        "share of peak": f"{peak['step_share']:.1%} alone, {peak['training_share']:.1%} in "
        f"training, of {peak['flops_per_s'] / 1e12:,.1f} TFLOP/s ({peak['source']})"
    }
    if "bound" in peak:
        rows["roofline"] = (
            f"{peak['bound']}-bound: {peak['flops_per_byte']:.0f} FLOP/byte, ridge at "
            f"{peak['ridge']:.0f}; at least {peak['least_seconds'] * 1e3:.2f} ms, "
            f"{peak['roofline_share']:.1%} of the roofline attained"
        )
    return rows


def _memory(memory: Mapping[str, Any]) -> str:
    of = f" of {memory['limit'] / 2**30:.3g}" if memory["limit"] else ""
    return f"{memory['bytes'] / 2**30:.3g}{of} GiB, {memory['how']}"
