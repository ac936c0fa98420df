"""What the compiler says of a run on devices that aren't here: memory, bytes, collectives, time."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_collections as mlc
from absl import logging

from jaxlung.benchmark import collectives, dry_run, flops, hlo, targets, traffic
from jaxlung.data.feed import example, stream
from jaxlung.training import system as system_lib

NUM_LARGEST = 15
# Program -> what makes the jitted function and its abstract arguments.
PROGRAMS: dict[str, Callable[[system_lib.System], tuple[jax.stages.Wrapped, tuple[Any, ...]]]] = {
    "train": lambda system: (
        system.jit_train_step(stream.take),
        (system.abstract_state(), {}, dry_run.abstract_item(system), system.seed),
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
        them; "bytes", as in `_bytes`; "collectives", kind -> (number, bytes);
        "unknown_loops", the number of instructions in loops of unknown length, which count once;
        "least_seconds", the shortest time by the data sheet for "products" and for "memory";
        "largest", the instructions that move most.
    """
    logging.info("compiling %s for %s", program, target.name)
    function, args = PROGRAMS[program](system)
    start = time.perf_counter()
    traced = function.trace(*args)
    compiled = traced.lower().compile(compiler_options=dict(target.options))
    seconds = time.perf_counter() - start
    parsed = hlo.parse(compiled.as_text())
    moves = traffic.find(parsed)
    num_bytes = _bytes(moves, compiled)
    num_flops = flops.count(traced.jaxpr.jaxpr) / len(target.devices)
    sent = [each for each in collectives.find(parsed) if each.count is not None]
    is_training = program == "train"
    settings = system.settings
    return {
        "target": target.name,
        "program": program,
        "num_devices": len(target.devices),
        "mesh": list(system.shardings.mesh.devices.shape),
        "batch_size": settings.batch_size if is_training else settings.eval_batch_size,
        "unit": dry_run.unit_of(system),
        "dtype": dtype,
        "jax": jax.__version__,
        "compile_seconds": seconds,
        "memory": _memory(compiled, target),
        "flops": num_flops,
        "bytes": num_bytes,
        "collectives": {
            kind: (total.count, total.num_bytes) for kind, total in collectives.totals(sent).items()
        },
        "unknown_loops": sum(move.count is None for move in moves),
        "least_seconds": {
            "products": num_flops / target.peaks.flops(dtype),
            "memory": num_bytes["total"] / target.peaks.bandwidth,
            "source": target.peaks.source,
        },
        "largest": [_row(move) for move in sorted(moves, key=lambda x: -x.num_bytes)[:NUM_LARGEST]],
    }


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


def _bytes(moves: list[traffic.Move], compiled: jax.stages.Compiled) -> dict[str, Any]:
    """Returns bytes read and written.

    Returns:
        "convolutions", "products" (of matrices), "other", and "total"; of these "turned", by
        transposes and copies, and "turned_volumes", those of arrays with five axes or more;
        "channels_first", by convolutions in which cuDNN turns its operands once more; "xla", as XLA
        counts all of them, or None.
    """
    kinds = {
        name: traffic.total(moves, kind)
        for name, kind in (
            ("convolutions", "convolution"),
            ("products", "product"),
            ("other", "other"),
        )
    }
    turned = [move for move in moves if move.is_turn]
    return kinds | {
        "total": sum(kinds.values()),
        "turned": sum(move.num_bytes for move in turned),
        "turned_volumes": sum(move.num_bytes for move in turned if move.num_axes > 4),
        "channels_first": sum(move.num_bytes for move in moves if move.channels_first),
        "xla": (compiled.cost_analysis() or {}).get("bytes accessed"),
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
        + (f"; XLA counts {_gb(moved['xla'])}" if moved["xla"] else ""),
        "layout conversions": f"{_gb(moved['turned'])} by transposes and copies"
        + f", {_gb(moved['channels_first'])} in convolutions with channels first"
        * bool(moved["channels_first"]),
        "collectives": ", ".join(
            f"{count} {kind}: {num_bytes / 1e6:.1f} MB"
            for kind, (count, num_bytes) in found["collectives"].items()
        )
        or "none",
        "at least": f"{least['products'] * 1e3:.2f} ms for products, "
        f"{least['memory'] * 1e3:.2f} ms for memory ({least['source']})",
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
