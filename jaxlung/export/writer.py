"""Writes a trained run as one file (`jaxlung export`): for JAX without Flax, or as ONNX."""

import datetime
import importlib
import importlib.metadata
import io
import itertools
import json
import math
import os
import pathlib
import platform
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax
import jax
import jax.export
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung.config import workdir as workdir_lib
from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.exported import reader
from jaxlung.host import files
from jaxlung.tasks import task as task_lib
from jaxlung.training import system as system_lib
from jaxlung.training import trained

PLATFORMS = ("cpu", "cuda", "tpu")
NOTICE = "No medical device: for research, not for diagnosis or treatment."
PACKAGES = ("jaxlung", "jax", "jaxlib", "flax", "numpy")
ONNX_PACKAGES = ("jax2onnx", "onnx", "onnxruntime")  # of the extra "onnx"
Weights = dict[str, np.ndarray]


def export(workdirs: Sequence[epath.Path], output: pathlib.Path, *, half: bool = False) -> None:
    """Writes the selected network of a run, or the mean of several, as one file (docs/export.md).

    Args:
        workdirs: folders of the runs; several must have one task, input size and way to it.
        output: the file to write, whole or not at all; an older export there is replaced. The
            suffix .onnx chooses ONNX, any other one the format that `reader.load` reads.
        half: write weights in float16, half the bytes; the program computes as before.

    Raises:
        ValueError: a folder has no run or no good checkpoint; a run's threshold wasn't chosen
            yet; several runs don't go together; `output` can't be written, lies in a run's folder
            or is another file; the packages for ONNX are missing, or onnxruntime's probabilities
            differ from JAX's; a weight is too large for float16.
    """
    for workdir in workdirs:
        require_place(output, workdir)
    is_onnx = output.suffix.lower() == ".onnx"
    if is_onnx and half:
        raise ValueError("--half: ONNX files hold float32; want another suffix than .onnx.")
    if is_onnx:
        require_onnx(output)
    runs = [open_run(workdir, float32=is_onnx) for workdir in workdirs]
    require_alike(runs)
    content = to_onnx(runs) if is_onnx else to_jaxlung(runs, half=half)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(epath.Path(output), content)
    except OSError as error:
        raise ValueError(f"FILE: can't write {output} ({error.strerror}).") from error
    named = ", ".join(f"step {run.step} of {run.path}" for run in runs)
    logging.info("%s: %s, %d bytes", named, output, len(content))


def require_alike(runs: Sequence[trained.Trained]) -> None:
    """Raises ValueError unless the runs have one kind of input and output."""
    first = runs[0]
    for run in runs[1:]:
        if run.path == first.path:
            raise ValueError(f"--model: {run.path} is named twice.")
        ours, theirs = (_describe_use(x) for x in (first, run))
        for name, value in theirs.items():
            if value != ours[name]:
                raise ValueError(
                    f"--model: {run.path} and {first.path} can't be one file: {name} is {value} "
                    f"and {ours[name]}."
                )


def _describe_use(run: trained.Trained) -> dict[str, Any]:
    """Returns the fields of a manifest that decide what goes into the program and comes out."""
    system, settings = run.system, run.system.settings
    return {
        "task": system.task.name,
        "levels": list(system.task.levels),
        "size": list(settings.input_shape),
        "resize": settings.resize if isinstance(settings, settings_lib.ImageSettings) else None,
        "volumes": describe_volumes(system) if system.is_volumetric else None,
    }


def require_place(output: pathlib.Path, workdir: epath.Path) -> None:
    """Raises ValueError if the file would lie in a run's folder or replace another file."""
    workdir_lib.require_outside("FILE", output, [workdir])
    if output.is_dir():
        raise ValueError(f"FILE: {output} is a folder, want a file.")
    if os.path.lexists(output) and not _is_export(output):
        raise ValueError(
            f"FILE: {output} exists and is no export; choose another name, or remove it first."
        )


def _is_export(path: pathlib.Path) -> bool:
    """Returns True if a file is a zip or an ONNX file with a manifest of jaxlung's in it."""
    content = path.read_bytes() if path.is_file() else b""
    return content[:1] in (b"P", b"\x08") and reader.FORMAT.encode() in content


def open_run(workdir: epath.Path, *, float32: bool) -> trained.Trained:
    """Opens a run's selected network; `float32` makes it compute in float32 in any case."""
    workdir = files.to_absolute(workdir)
    config = mlc.ConfigDict(workdir_lib.load_config(workdir).to_dict())
    if float32:
        config.model.dtype = "float32"
    return trained.open_run(workdir, config)


def to_jaxlung(runs: Sequence[trained.Trained], *, half: bool = False) -> bytes:
    """Returns the bytes of the file that `reader.load` reads.

    The weights are arguments of the program, not constants in it. NumPy can read them without JAX,
    and XLA doesn't try to fold 124 MB of constants when it compiles.
    """
    weights = flatten(runs)
    stored = halve(weights) if half else weights
    program = make_program(runs, stored)
    members = {reader.PROGRAM: bytes(program.serialize())}
    members |= {_member(name): to_npy(x) for name, x in stored.items()}
    manifest = make_manifest(runs, make_inputs(runs)) | {
        "platforms": list(program.platforms),
        "calling_convention": program.calling_convention_version,
        "sha256": {name: reader.sha256(content) for name, content in members.items()},
    }
    return pack(manifest | {reader.DIGEST: reader.digest(manifest)}, members)


def halve(weights: Weights) -> Weights:
    """Returns the weights in float16, which has 3 decimal digits.

    Raises:
        ValueError: a weight is larger than float16's largest number, 65,504.
    """
    with np.errstate(over="ignore"):  # It becomes infinite, which is told below.
        halved = {name: x.astype(np.float16) for name, x in weights.items()}
    for name, array in halved.items():
        if not np.isfinite(array).all():
            raise ValueError(f"--half: {name} is too large for float16; leave --half out.")
    return halved


def require_onnx(output: pathlib.Path) -> None:
    """Raises ValueError unless the packages that write and check ONNX are installed."""
    for name in ONNX_PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(
                f"FILE: {output} needs {name}: pip install 'jaxlung[onnx]' ({error})."
            ) from error


def to_onnx(runs: Sequence[trained.Trained]) -> bytes:
    """Returns the bytes of the ONNX file, for images of the trained size, checked against JAX."""
    from jaxlung.export import onnx_export  # Needs packages that only the extra "onnx" installs.

    weights, inputs = flatten(runs), make_inputs(runs, any_size=False)
    manifest = make_manifest(runs, inputs) | {"format": f"{reader.FORMAT}.onnx"}
    manifest["versions"] |= versions(ONNX_PACKAGES)
    return onnx_export.build(make_predict(runs), weights, inputs, manifest)


def flatten(runs: Sequence[trained.Trained]) -> Weights:
    """Returns the weights by number of the run and path, "0/params/encoder_0/conv_0/kernel"."""
    networks = {str(i): run.state.network for i, run in enumerate(runs)}
    return flax.traverse_util.flatten_dict(jax.device_get(networks), sep="/")


def make_predict(
    runs: Sequence[trained.Trained],
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Returns a function that computes "probs" and "preds" as `Step.evaluate` does.

    Its arguments are the weights and a batch with "images" and, if the task needs lungs, "masks".
    Of several runs it is the mean of the probabilities, each with the run's own temperature, and
    the mean of the thresholds.
    """
    postprocess = mean_task(runs).postprocess

    def probs_of(run: trained.Trained, variables: Any, batch: dict[str, jax.Array]) -> jax.Array:
        images = run.system.step.scale(batch["images"])
        # A task that hides nothing ignores the masks.
        inputs = run.system.task.inputs(images, batch.get("masks"))  # type: ignore[arg-type]
        # One program for all platforms has the form that is good on most.
        model = run.system.model.for_platform("cpu")
        logits: Any = model.apply(variables, inputs, train=False)
        return run.system.step.probs(logits)

    def predict(weights: Weights, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        whole = {name: x.astype(jnp.float32) for name, x in weights.items()}
        networks = flax.traverse_util.unflatten_dict(whole, sep="/")
        outputs = [probs_of(run, networks[str(i)], batch) for i, run in enumerate(runs)]
        probs = sum(outputs[1:], start=outputs[0]) / len(outputs)
        return probs[..., 0], postprocess(probs)

    return predict


def mean_task(runs: Sequence[trained.Trained]) -> task_lib.Task:
    """Returns the task of the runs, with the mean of their thresholds (our choice)."""
    task = runs[0].system.task
    thresholds = [t for run in runs if (t := run.system.task.threshold) is not None]
    return task_lib.with_threshold(task, thresholds) if thresholds else task


def make_program(runs: Sequence[trained.Trained], weights: Weights) -> jax.export.Exported:
    """Exports `make_predict` for all `PLATFORMS`, any batch size and any size that fits."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights)
    export_for = jax.export.export(jax.jit(make_predict(runs)), platforms=PLATFORMS)
    return export_for(shapes, make_inputs(runs))


def make_inputs(
    runs: Sequence[trained.Trained], *, any_size: bool = True
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of the program's "images" and, if the task needs lungs, "masks".

    The batch size is free. The image size is the trained one, or with `any_size` any multiple of
    what all networks need.
    """
    system = runs[0].system
    axes = ("d", "h", "w") if system.is_volumetric else ("h", "w")
    needed = zip(*(run.system.model.input_multiples() for run in runs), strict=True)
    steps = [
        math.lcm(*(x for x in step if x)) if any_size and None not in step else None
        for step in needed
    ]
    sizes = [
        str(size) if step is None else f"{step}*{axis}"
        for axis, step, size in zip(axes, steps, system.settings.input_shape, strict=True)
    ]
    shape = jax.export.symbolic_shape(", ".join(["b", *sizes]))
    inputs = {"images": jax.ShapeDtypeStruct(shape, np.int16 if system.is_volumetric else np.uint8)}
    if system.task.needs_lungs:
        inputs["masks"] = jax.ShapeDtypeStruct(shape, np.uint8)
    return inputs


def borders(task: task_lib.Task) -> list[float]:
    """Returns the probabilities between the levels; a level is the number of borders below."""
    if task.threshold is not None:
        return [task.threshold]
    return [(low + high) / 2 / 255 for low, high in itertools.pairwise(task.greys)]


def make_manifest(
    runs: Sequence[trained.Trained], inputs: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, Any]:
    """Returns the description in a file of either kind, as JSON values; see docs/export.md."""
    task = mean_task(runs)
    return {
        "format": reader.FORMAT,
        "format_version": reader.VERSION,
        "notice": NOTICE,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **versions(PACKAGES)},
        "members": [describe_member(run) for run in runs],
        "records": task.records,
        "borders": borders(task),
        **_describe_use(runs[0]),
        "inputs": describe_inputs(inputs),
        "outputs": describe_outputs(task),
    }


def describe_member(run: trained.Trained) -> dict[str, Any]:
    """Returns config, temperature, threshold and checkpoint of one of the networks in a file.

    The config has no paths: they say where its data lie on one machine, and whose machine it is.
    """
    return {
        "temperature": run.system.step.temperature,
        "threshold": run.system.task.threshold,
        "config": workdir_lib.to_json(workdir_lib.without_paths(run.config)),
        "checkpoint": {
            "selection": run.config.selection,
            "step": run.step,
            "weights_sha256": digest(flatten([run])),
        },
    }


def digest(weights: Weights) -> str:
    """Returns one SHA-256 of weights: the same in every file made from a checkpoint."""
    digests = {_member(name): reader.sha256(to_npy(x)) for name, x in weights.items()}
    return reader.sha256(json.dumps(digests, sort_keys=True).encode())


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Returns the installed version of each package, by its name."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # Run from a checkout, not installed.
            found[name] = "unknown"
    return found


def describe_volumes(system: system_lib.System) -> dict[str, Any]:
    """Returns the settings with which windows cover a whole CT."""
    inference, settings = system.inference, system.settings
    assert inference is not None
    assert isinstance(settings, settings_lib.PatchSettings)
    return {
        "spacing_mm": list(settings.spacing_mm),
        "crop_to_lungs": settings.crop_to_lungs,
        "batch_size": settings.eval_batch_size,
        "overlap": inference.overlap,
        "mirror": inference.mirror,
        "keep_largest": inference.keep_largest,
        "inside_lungs": inference.inside_lungs,
    }


def describe_inputs(inputs: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, dict[str, Any]]:
    """Returns shape, type and meaning of each of the program's inputs."""
    meanings = {
        "images": "X-ray, bone white, resized to the network's square",
        "masks": f"bit {record.LUNG} is set in the lungs",
    }
    if len(inputs["images"].shape) == 4:
        meanings["images"] = (
            "windows of a CT, Hounsfield units; slices, rows, columns grow to the patient's "
            "superior, posterior, left"
        )
    return {
        name: {
            "shape": [str(size) for size in spec.shape],
            "dtype": str(spec.dtype),
            "meaning": meanings[name],
        }
        for name, spec in inputs.items()
    }


def describe_outputs(task: task_lib.Task) -> dict[str, dict[str, str]]:
    """Returns type and meaning of the program's outputs, both of the images' shape."""
    grey = "the network's grey of the levels, 0 to 1"
    of = grey if task.threshold is None else f"probability of {task.levels[1]}, 0 to 1"
    return {
        "probs": {"dtype": "float32", "meaning": of},
        "preds": {"dtype": "uint8", "meaning": "index into levels: how many borders probs pass"},
    }


def _member(name: str) -> str:
    """Returns the name of the zip's member that holds these weights."""
    return f"{reader.WEIGHTS}{name}.npy"


def to_npy(array: np.ndarray) -> bytes:
    """Returns the bytes of an .npy file, without pickle."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def pack(manifest: dict[str, Any], members: Mapping[str, bytes]) -> bytes:
    """Returns the zip, uncompressed.

    Weights don't shrink by compression, and a reader never unpacks more than the file's size.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(reader.MANIFEST, json.dumps(manifest, indent=2) + "\n")
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()
