"""`--mode=export`: a trained run as one file that predicts without Flax, with JAX or by ONNX."""

import dataclasses
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
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung.config import workdir as workdir_lib
from jaxlung.data import record
from jaxlung.export import reader as exported
from jaxlung.host import files
from jaxlung.models import layers_3d, slim_unet
from jaxlung.tasks import task as task_lib
from jaxlung.training import system as system_lib
from jaxlung.training import train_step
from jaxlung.training import trained as trained_lib

PLATFORMS = ("cpu", "cuda", "tpu")
NOTICE = "No medical device: for research, not for diagnosis or treatment."
PACKAGES = ("jaxlung", "jax", "jaxlib", "flax", "numpy")
ONNX_PACKAGES = ("jax2onnx", "onnx", "onnxruntime")  # of the extra "onnx"
Weights = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What a file is made of.

    Attributes:
        config: of the run, its threshold known; of an ONNX file, it computes in float32.
        system: made of it.
        step: finished updates.
        weights: parameters and running statistics by path, "params/encoder_0/conv_0/kernel".
    """

    config: mlc.ConfigDict
    system: system_lib.System
    step: int
    weights: Weights


def export(workdir: epath.Path, output: pathlib.Path) -> None:
    """Writes a run's selected network as one file; docs/export.md says what is in it.

    Args:
        workdir: the run's folder.
        output: the file; whole or not at all, in the place of an older export. With the suffix
            .onnx it is ONNX, else what `exported.load` reads.

    Raises:
        ValueError: no run or no good checkpoint there; a threshold that was to be chosen and
            wasn't; an `output` that can't be written, in a run's folder, or over another file;
            ONNX without its packages, or other probabilities by onnxruntime than by JAX.
    """
    require_place(output, workdir)
    is_onnx = output.suffix.lower() == ".onnx"
    if is_onnx:
        require_onnx(output)
    trained = load_trained(workdir, float32=is_onnx)
    content = to_onnx(trained) if is_onnx else to_jaxlung(trained)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(epath.Path(output), content)
    except OSError as error:
        raise ValueError(f"--output: can't write {output} ({error.strerror}).") from error
    logging.info("step %d of %s: %s, %d bytes", trained.step, workdir, output, len(content))


def require_place(output: pathlib.Path, workdir: epath.Path) -> None:
    """Raises ValueError if the file would lie in a run's folder, or take another file's place."""
    workdir_lib.require_outside(output, [workdir])
    if output.is_dir():
        raise ValueError(f"--output: {output} is a folder, want a file.")
    if os.path.lexists(output) and not _is_export(output):
        raise ValueError(
            f"--output: {output} is there already, and no export; choose another name, or remove "
            "it first."
        )


def _is_export(path: pathlib.Path) -> bool:
    """Returns whether a file is a zip or ONNX with a manifest of ours in it."""
    content = path.read_bytes() if path.is_file() else b""
    return content[:1] in (b"P", b"\x08") and exported.FORMAT.encode() in content


def load_trained(workdir: epath.Path, *, float32: bool) -> Trained:
    """Reads a run's selected network; `float32` computes in it whatever the run did."""
    workdir = files.to_absolute(workdir)
    config = mlc.ConfigDict(workdir_lib.load_config(workdir).to_dict())
    if float32:
        config.model.dtype = "float32"
    run = trained_lib.open_run(workdir, config)
    return Trained(run.config, run.system, run.step, flatten(run.state))


def to_jaxlung(trained: Trained) -> bytes:
    """The file that `exported.load` reads.

    The weights are arguments of the program, not constants in it: NumPy reads them alone, and XLA,
    which folds constants, needn't see 124 MB of them when it compiles.
    """
    program = make_program(trained.system, trained.weights)
    members = {exported.PROGRAM: bytes(program.serialize())}
    members |= {_member(name): to_npy(x) for name, x in trained.weights.items()}
    manifest = make_manifest(trained, make_inputs(trained.system)) | {
        "platforms": list(program.platforms),
        "calling_convention": program.calling_convention_version,
        "sha256": {name: exported.sha256(content) for name, content in members.items()},
    }
    return pack(manifest | {exported.DIGEST: exported.digest(manifest)}, members)


def require_onnx(output: pathlib.Path) -> None:
    """Raises ValueError unless the packages are here that ONNX is written and read with."""
    for name in ONNX_PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ValueError(
                f"--output: {output} wants {name}: pip install 'jaxlung[onnx]' ({error})."
            ) from error


def to_onnx(trained: Trained) -> bytes:
    """The network for images of the trained size, as `onnx_export.build` makes and checks it."""
    from jaxlung.export import onnx_export  # Its packages are an extra.

    inputs = make_inputs(trained.system, any_size=False)
    manifest = make_manifest(trained, inputs) | {"format": f"{exported.FORMAT}.onnx"}
    manifest["versions"] |= versions(ONNX_PACKAGES)
    predict = make_predict(trained.system)
    return onnx_export.build(predict, trained.weights, inputs, manifest)


def flatten(state: train_step.TrainState) -> Weights:
    """Parameters and running statistics by path, "params/encoder_0/conv_0/kernel"."""
    trees = {"params": state.params, "batch_stats": state.batch_stats}
    return flax.traverse_util.flatten_dict(jax.device_get(trees), sep="/")


def make_predict(system: system_lib.System) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Returns a function that computes "probs" and "preds" as `Step.evaluate` does.

    A function of (weights, {"images"} or {"images", "masks"}).
    """

    def predict(weights: Weights, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        variables = flax.traverse_util.unflatten_dict(weights, sep="/")
        images = system.step.scale(batch["images"])
        # A task that hides nothing looks at no mask.
        inputs = system.task.inputs(images, batch.get("masks"))
        logits = system.model.apply(variables, inputs, train=False)
        probs = jax.nn.sigmoid(logits)
        return probs[..., 0], system.task.postprocess(probs)

    return predict


def make_program(system: system_lib.System, weights: Weights) -> jax.export.Exported:
    """`make_predict` for `PLATFORMS`, any number of images and what `multiples` says of sizes."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights)
    export_for = jax.export.export(jax.jit(make_predict(system)), platforms=PLATFORMS)
    return export_for(shapes, make_inputs(system))


def make_inputs(
    system: system_lib.System, *, any_size: bool = True
) -> dict[str, jax.ShapeDtypeStruct]:
    """What the program takes beside the weights: "images", and "masks" if the task needs lungs.

    Any number of them; of the trained size, or of `any_size` that `multiples` allows.
    """
    axes = ("d", "h", "w") if system.is_volumetric else ("h", "w")
    steps = multiples(system) if any_size else (None,) * len(axes)
    sizes = [
        str(size) if step is None else f"{step}*{axis}"
        for axis, step, size in zip(axes, steps, system.settings.input_shape, strict=True)
    ]
    shape = jax.export.symbolic_shape(", ".join(["b", *sizes]))
    inputs = {"images": jax.ShapeDtypeStruct(shape, np.int16 if system.is_volumetric else np.uint8)}
    if hides(system.task, system.settings.input_shape):
        inputs["masks"] = jax.ShapeDtypeStruct(shape, np.uint8)
    return inputs


def multiples(system: system_lib.System) -> tuple[int | None, ...]:
    """What each axis of the input must be a multiple of; None where only the trained size works.

    Dense layers see one size (`diagnosis_cnn`), and a border of so many pixels belongs to one
    (`slim_unet`).
    """
    model = system.model
    if system.is_volumetric:
        return layers_3d.total_strides(model.strides)
    if not system.task.is_map or isinstance(model, slim_unet.SlimUNet):
        return None, None
    return (2 ** (len(model.widths) - 1),) * 2


def hides(task: task_lib.Task, shape: tuple[int, ...]) -> bool:
    """Whether the task shows the network only what lies inside the lungs."""
    ones = jnp.ones((1, *shape, 1), jnp.float32)
    without = task.inputs(ones, jnp.zeros((1, *shape), jnp.uint8))
    return not bool(jnp.any(without))


def borders(task: task_lib.Task) -> list[float]:
    """Probabilities between the levels: a pixel is of as high a level as borders it is above."""
    if task.threshold is not None:
        return [task.threshold]
    return [(low + high) / 2 / 255 for low, high in itertools.pairwise(task.greys)]


def make_manifest(trained: Trained, inputs: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    """What a file of either kind says of itself, as JSON values; docs/export.md explains each."""
    system, task = trained.system, trained.system.task
    is_volumetric = system.is_volumetric
    return {
        "format": exported.FORMAT,
        "format_version": exported.VERSION,
        "notice": NOTICE,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **versions(PACKAGES)},
        "config": workdir_lib.to_json(trained.config),
        "checkpoint": {
            "selection": trained.config.selection,
            "step": trained.step,
            "weights_sha256": digest(trained.weights),
        },
        "task": task.name,
        "records": task.records,
        "levels": list(task.levels),
        "borders": borders(task),
        "size": list(system.settings.input_shape),
        "resize": None if is_volumetric else system.settings.resize,
        "volumes": describe_volumes(system) if is_volumetric else None,
        "inputs": describe_inputs(inputs),
        "outputs": describe_outputs(task),
    }


def digest(weights: Weights) -> str:
    """One of all weights: the same in every file that is made of a checkpoint."""
    digests = {_member(name): exported.sha256(to_npy(x)) for name, x in weights.items()}
    return exported.sha256(json.dumps(digests, sort_keys=True).encode())


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of what made the file."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # A checkout that isn't installed.
            found[name] = "unknown"
    return found


def describe_volumes(system: system_lib.System) -> dict[str, Any]:
    """How whole CTs are predicted with windows."""
    inference, settings = system.inference, system.settings
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
    """Shape, type and meaning of what the program takes."""
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
    """Type and meaning of what the program gives, both of the images' shape."""
    grey = "the network's grey of the levels, 0 to 1"
    of = grey if task.threshold is None else f"probability of {task.levels[1]}, 0 to 1"
    return {
        "probs": {"dtype": "float32", "meaning": of},
        "preds": {"dtype": "uint8", "meaning": "index into levels: how many borders probs pass"},
    }


def _member(name: str) -> str:
    """Of the zip, that holds these weights."""
    return f"{exported.WEIGHTS}{name}.npy"


def to_npy(array: np.ndarray) -> bytes:
    """The bytes of an .npy file, without pickle."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def pack(manifest: dict[str, Any], members: Mapping[str, bytes]) -> bytes:
    """The zip, uncompressed: weights don't shrink, and what is read is never more than the file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(exported.MANIFEST, json.dumps(manifest, indent=2) + "\n")
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()
