"""Writes a trained run as one file (`jaxlung export`): for JAX without Flax, or as ONNX."""

import datetime
import importlib
import importlib.metadata
import io
import itertools
import json
import os
import pathlib
import platform
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax
import jax
import jax.export
import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung.config import workdir as workdir_lib
from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.export import reader
from jaxlung.host import files
from jaxlung.tasks import task as task_lib
from jaxlung.training import system as system_lib
from jaxlung.training import train_step, trained

PLATFORMS = ("cpu", "cuda", "tpu")
NOTICE = "No medical device: for research, not for diagnosis or treatment."
PACKAGES = ("jaxlung", "jax", "jaxlib", "flax", "numpy")
ONNX_PACKAGES = ("jax2onnx", "onnx", "onnxruntime")  # of the extra "onnx"
Weights = dict[str, np.ndarray]


def export(workdir: epath.Path, output: pathlib.Path) -> None:
    """Writes a run's selected network as one file, described in docs/export.md.

    Args:
        workdir: the run's folder.
        output: the file to write, whole or not at all; an older export there is replaced. The
            suffix .onnx chooses ONNX, any other one the format that `reader.load` reads.

    Raises:
        ValueError: the folder has no run or no good checkpoint; the run's threshold wasn't chosen
            yet; `output` can't be written, lies in a run's folder or is another file; the packages
            for ONNX are missing, or onnxruntime's probabilities differ from JAX's.
    """
    require_place(output, workdir)
    is_onnx = output.suffix.lower() == ".onnx"
    if is_onnx:
        require_onnx(output)
    run = open_run(workdir, float32=is_onnx)
    content = to_onnx(run) if is_onnx else to_jaxlung(run)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(epath.Path(output), content)
    except OSError as error:
        raise ValueError(f"FILE: can't write {output} ({error.strerror}).") from error
    logging.info("step %d of %s: %s, %d bytes", run.step, workdir, output, len(content))


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


def to_jaxlung(run: trained.Trained) -> bytes:
    """Returns the bytes of the file that `reader.load` reads.

    The weights are arguments of the program, not constants in it. NumPy can read them without JAX,
    and XLA doesn't try to fold 124 MB of constants when it compiles.
    """
    weights = flatten(run.state)
    program = make_program(run.system, weights)
    members = {reader.PROGRAM: bytes(program.serialize())}
    members |= {_member(name): to_npy(x) for name, x in weights.items()}
    manifest = make_manifest(run, weights, make_inputs(run.system)) | {
        "platforms": list(program.platforms),
        "calling_convention": program.calling_convention_version,
        "sha256": {name: reader.sha256(content) for name, content in members.items()},
    }
    return pack(manifest | {reader.DIGEST: reader.digest(manifest)}, members)


def require_onnx(output: pathlib.Path) -> None:
    """Raises ValueError unless the packages that write and check ONNX are installed."""
    for name in ONNX_PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(
                f"FILE: {output} needs {name}: pip install 'jaxlung[onnx]' ({error})."
            ) from error


def to_onnx(run: trained.Trained) -> bytes:
    """Returns the bytes of the ONNX file, for images of the trained size, checked against JAX."""
    from jaxlung.export import onnx_export  # Needs packages that only the extra "onnx" installs.

    weights, inputs = flatten(run.state), make_inputs(run.system, any_size=False)
    manifest = make_manifest(run, weights, inputs) | {"format": f"{reader.FORMAT}.onnx"}
    manifest["versions"] |= versions(ONNX_PACKAGES)
    return onnx_export.build(make_predict(run.system), weights, inputs, manifest)


def flatten(state: train_step.TrainState) -> Weights:
    """Returns parameters and running statistics by path, "params/encoder_0/conv_0/kernel"."""
    return flax.traverse_util.flatten_dict(jax.device_get(state.network), sep="/")


def make_predict(system: system_lib.System) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Returns a function that computes "probs" and "preds" as `Step.evaluate` does.

    Its arguments are the weights and a batch with "images" and, if the task needs lungs, "masks".
    """

    def predict(weights: Weights, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        variables = flax.traverse_util.unflatten_dict(weights, sep="/")
        images = system.step.scale(batch["images"])
        # A task that hides nothing ignores the masks.
        inputs = system.task.inputs(images, batch.get("masks"))  # type: ignore[arg-type]
        logits: Any = system.model.apply(variables, inputs, train=False)
        probs = jax.nn.sigmoid(logits)
        return probs[..., 0], system.task.postprocess(probs)

    return predict


def make_program(system: system_lib.System, weights: Weights) -> jax.export.Exported:
    """Exports `make_predict` for all `PLATFORMS`, any batch size and any size that fits."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights)
    export_for = jax.export.export(jax.jit(make_predict(system)), platforms=PLATFORMS)
    return export_for(shapes, make_inputs(system))


def make_inputs(
    system: system_lib.System, *, any_size: bool = True
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of the program's "images" and, if the task needs lungs, "masks".

    The batch size is free. The image size is the trained one, or with `any_size` any multiple of
    what the network needs.
    """
    axes = ("d", "h", "w") if system.is_volumetric else ("h", "w")
    steps = system.model.input_multiples() if any_size else (None,) * len(axes)
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
    run: trained.Trained, weights: Weights, inputs: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, Any]:
    """Returns the description in a file of either kind, as JSON values; see docs/export.md."""
    system, task = run.system, run.system.task
    settings = system.settings
    return {
        "format": reader.FORMAT,
        "format_version": reader.VERSION,
        "notice": NOTICE,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **versions(PACKAGES)},
        "config": workdir_lib.to_json(run.config),
        "checkpoint": {
            "selection": run.config.selection,
            "step": run.step,
            "weights_sha256": digest(weights),
        },
        "task": task.name,
        "records": task.records,
        "levels": list(task.levels),
        "borders": borders(task),
        "size": list(settings.input_shape),
        "resize": settings.resize if isinstance(settings, settings_lib.ImageSettings) else None,
        "volumes": describe_volumes(system) if system.is_volumetric else None,
        "inputs": describe_inputs(inputs),
        "outputs": describe_outputs(task),
    }


def digest(weights: Weights) -> str:
    """Returns one SHA-256 of all weights: the same in every file made from a checkpoint."""
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
