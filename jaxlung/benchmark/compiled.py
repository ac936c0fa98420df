"""Compiles a run for devices that aren't here: its memory, bytes, collectives and least time."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections as mlc
from absl import logging

from jaxlung.benchmark import collectives, dry_run, flops, hlo, targets, traffic
from jaxlung.data.feed import example, stream
from jaxlung.training import system as system_lib
from jaxlung.training import validation

NUM_LARGEST = 15
# Program -> what makes the jitted function and its abstract arguments.
PROGRAMS: dict[str, Callable[[system_lib.System], tuple[jax.stages.Wrapped, tuple[Any, ...]]]] = {
    "train": lambda system: (
        system.jit_train_step(stream.take),
        (system.abstract_state(), {}, _item(system, "train"), system.seed),
    ),
    "validate": lambda system: (
        system.jit_validation_step(stream.take),
        (system.abstract_state(), {}, _item(system, "validate")),
    ),
    "evaluate": lambda system: (
        system.jit_eval_step(),
        (system.abstract_state(), abstract_batch(system)),
    ),
    "predict": lambda system: (
        system.jit_window_step(),
        (system.abstract_state(), abstract_batch(system)),
    ),
}


def run(
    config: mlc.ConfigDict, target: targets.Target, programs: Sequence[str] = tuple(PROGRAMS)
) -> Iterator[dict[str, Any]]:
    """Compiles programs of a config for a target, and yields what `compile_one` finds in each.

    Args:
        config: the run; its mesh is laid out on the target's devices.
        target: the devices.
        programs: names in `PROGRAMS`.

    Raises:
        ValueError: the config has an impossible setting, or its mesh doesn't fit the target.
    """
    system = system_lib.make_system(config, target.devices)
    for program in programs:
        yield compile_one(system, target, program, config.model.dtype)


def abstract_batch(system: system_lib.System) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes, types and shardings of a batch of evaluation, or of windows of volumes."""
    return {
        name: jax.ShapeDtypeStruct(
            (system.settings.eval_batch_size, *spec.shape),
            spec.dtype,
            sharding=system.shardings.batch,
        )
        for name, spec in example.specs(system.settings).items()
    }


def batch_size(system: system_lib.System, program: str) -> int:
    """Returns the number of examples, over all devices, in one run of a program."""
    settings = system.settings
    sizes = {
        "train": settings.batch_size,
        "validate": validation.batch_size(settings),
        "evaluate": settings.eval_batch_size,
        "predict": settings.eval_batch_size,
    }
    return sizes[program]


def _item(system: system_lib.System, program: str) -> dict[str, jax.ShapeDtypeStruct]:
    return dry_run.abstract_item(system, batch_size(system, program))


def compile_one(
    system: system_lib.System, target: targets.Target, program: str, dtype: str
) -> dict[str, Any]:
    """Compiles one program and reads its text.

    Args:
        system: made for the target's devices.
        target: the devices.
        program: name in `PROGRAMS`.
        dtype: type that the network computes in.

    Returns:
        Numbers of one device and one run of the program, ready for JSON:
        "target", "program", "num_devices", "mesh" (data, space), "batch_size" over all devices,
        "unit" ("image" or "patch"), "dtype", "jax" (its version) and "compile_seconds";
        "memory", as in `_memory`; "flops" of convolutions and products, as `flops.count` counts
        them; "bytes", as in `_bytes`, with those "on_chip" (in a TPU's own memory, which `_bytes`
        leaves out) and those that "xla" counts, on the chip too, or None; "collectives", kind ->
        (number, bytes);
        "unknown_loops", the number of instructions in loops of unknown length, which count once;
        "least_seconds", the shortest time by the data sheet for "products", for "memory" and for
        "links", as in `link_seconds`;
        "largest", the instructions that move most.
    """
    logging.info("compiling %s for %s", program, target.name)
    function, args = PROGRAMS[program](system)
    start = time.perf_counter()
    traced = function.trace(*args)
    compiled = traced.lower().compile(compiler_options=dict(target.options))
    seconds = time.perf_counter() - start
    text = compiled.as_text()
    parsed = hlo.parse(text)
    moves = traffic.find(parsed)
    num_bytes = _bytes(moves)
    everywhere = traffic.find(hlo.parse(text.replace("S(1)", "")))
    num_bytes["on_chip"] = traffic.total(everywhere) - num_bytes["total"]
    num_bytes["xla"] = (compiled.cost_analysis() or {}).get("bytes accessed")
    num_flops = flops.count(traced.jaxpr.jaxpr) / len(target.devices)
    known = [each for each in collectives.find(parsed) if each.count is not None]
    sent = {
        kind: (total.count, total.num_bytes) for kind, total in collectives.totals(known).items()
    }
    return {
        "target": target.name,
        "program": program,
        "num_devices": len(target.devices),
        "mesh": list(system.shardings.mesh.devices.shape),
        "batch_size": batch_size(system, program),
        "unit": dry_run.unit_of(system),
        "dtype": dtype,
        "jax": jax.__version__,
        "compile_seconds": seconds,
        "memory": _memory(compiled, target),
        "flops": num_flops,
        "bytes": num_bytes,
        "collectives": sent,
        "unknown_loops": sum(move.count is None for move in moves),
        "least_seconds": {
            "products": num_flops / target.peaks.flops(dtype),
            "memory": num_bytes["total"] / target.peaks.bandwidth,
            "links": link_seconds(sent, len(target.devices), target),
            "source": target.peaks.source,
        },
        "largest": [_row(move) for move in sorted(moves, key=lambda x: -x.num_bytes)[:NUM_LARGEST]],
    }


def link_seconds(
    sent: Mapping[str, tuple[int, int]], num_devices: int, target: targets.Target
) -> float | None:
    """Returns the shortest time in which the collectives of a program cross the links.

    A ring passes (n - 1) / n of the bytes on, and twice as many for sums, which come back. Nothing
    of it is hidden under computation, and the latency of each collective is left out.

    Args:
        sent: kind -> (number, bytes).
        num_devices: n.
        target: the devices.

    Returns:
        Seconds; None if the links aren't known: those between hosts of GPUs are not.
    """
    if not sent:
        return 0.0
    is_gpu = target.devices[0].platform == "gpu"
    if target.peaks.link is None or (is_gpu and num_devices > targets.GPUS_PER_HOST):
        return None
    ring = (num_devices - 1) / num_devices
    times = {"all-reduce": 2 * ring, "all-gather": ring, "reduce-scatter": ring}
    return (
        sum(times.get(kind, 1.0) * num_bytes for kind, (_, num_bytes) in sent.items())
        / target.peaks.link
    )


def _memory(compiled: jax.stages.Compiled, target: targets.Target) -> dict[str, Any]:
    """Returns bytes: "arguments", "temporaries", "total", "device" and "usable"; and "fits"."""
    planned = compiled.memory_analysis()
    assert planned is not None
    total = dry_run.memory_bytes(compiled)
    return {
        "arguments": planned.argument_size_in_bytes,
        "temporaries": planned.temp_size_in_bytes,
        "total": total,
        "device": target.peaks.memory,
        "usable": target.usable_memory,
        "fits": total <= target.usable_memory,
    }


def _bytes(moves: list[traffic.Move]) -> dict[str, Any]:
    """Returns bytes read and written in the device's memory.

    Returns:
        "convolutions", "products" (of matrices), "other", and "total"; of these "turned", by
        transposes and copies, and "turned_volumes", those of arrays with five axes or more;
        "channels_first", by convolutions in which cuDNN turns its operands once more.
    """
    turned = [move for move in moves if move.is_turn]
    return {
        "convolutions": traffic.total(moves, "convolution"),
        "products": traffic.total(moves, "product"),
        "other": traffic.total(moves, "other"),
        "total": traffic.total(moves),
        "turned": traffic.total(turned),
        "turned_volumes": traffic.total([move for move in turned if move.num_axes > 4]),
        "channels_first": traffic.total([move for move in moves if move.channels_first]),
    }


def _row(move: traffic.Move) -> dict[str, Any]:
    return {
        "bytes": move.num_bytes,
        "kind": "turn" if move.is_turn else move.kind,
        "name": move.name,
        "count": move.count,
        "shapes": move.shapes,
        "layer": traffic.layer_of(move.op_name),
    }


def table(found: dict[str, Any]) -> str:
    """Returns the result of `compile_one` as text."""
    memory, moved, least = found["memory"], found["bytes"], found["least_seconds"]
    per = found["batch_size"] / found["mesh"][0]  # Examples on a device, or on those of a row.
    outside = moved["products"] + moved["other"]
    facts = {
        "memory": f"{_gib(memory['arguments'])} of arguments, {_gib(memory['temporaries'])} of "
        f"temporaries; {'fits' if memory['fits'] else 'does NOT fit'} into "
        f"{_gib(memory['usable'])} of {_gib(memory['device'])}",
        "work": f"{found['flops'] / 1e12:.3f} TFLOP of convolutions and products",
        "read and written": f"{_gb(moved['total'])}: {_gb(moved['convolutions'])} in convolutions, "
        f"{_gb(outside)} outside ({outside / per / 1e9:.3f} GB for each {found['unit']}), of it "
        f"{_gb(moved['products'])} in products"
        + (
            f"; {_gb(moved['on_chip'])} on the chip; XLA counts {_gb(moved['xla'])} in all"
            if moved["xla"]
            else ""
        ),
        "layout conversions": f"{_gb(moved['turned'])} by transposes and copies"
        + f", {_gb(moved['channels_first'])} in convolutions with channels first"
        * bool(moved["channels_first"]),
        "collectives": ", ".join(
            f"{count} {kind}: {num_bytes / 1e6:.1f} MB"
            for kind, (count, num_bytes) in found["collectives"].items()
        )
        or "none",
        "at least": f"{least['products'] * 1e3:.2f} ms for products, "
        f"{least['memory'] * 1e3:.2f} ms for memory"
        + (f", {least['links'] * 1e3:.2f} ms for links" if least["links"] else "")
        + f" ({least['source']})",
    }
    if found["unknown_loops"]:
        facts["loops"] = f"{found['unknown_loops']} instructions in loops of unknown length"
    head = (
        f"{found['program']}: {found['num_devices']} x {found['target'].partition(':')[0]}, mesh "
        f"{' x '.join(map(str, found['mesh']))}, batch {found['batch_size']}, {found['dtype']}, "
        f"compiled in {found['compile_seconds']:.0f} s. All figures are for one device."
    )
    lines = [head, *(f"{name:20}{fact}" for name, fact in facts.items()), "largest instructions"]
    lines += [
        f"{row['bytes'] / 1e9:9.3f} GB  {row['kind']:12}{row['layer'][:44]:46}{row['shapes'][:60]}"
        for row in found["largest"]
    ]
    return "\n".join(lines) + "\n"


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB"


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
