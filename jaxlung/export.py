"""`--mode=export`: a trained run as one file that `exported.load` predicts with, without Flax."""

import datetime
import importlib.metadata
import io
import itertools
import json
import pathlib
import platform
import zipfile
from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.export
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np
from absl import logging
from etils import epath

from jaxlung import checkpoint, evaluate, exported, files, train_step
from jaxlung import system as system_lib
from jaxlung import workdir as workdir_lib
from jaxlung.data import record
from jaxlung.models import layers_3d, slim_unet
from jaxlung.tasks import task as task_lib

PLATFORMS = ("cpu", "cuda", "tpu")
NOTICE = "No medical device: for research, not for diagnosis or treatment."
PACKAGES = ("jaxlung", "jax", "jaxlib", "flax", "numpy")
Weights = dict[str, np.ndarray]


def export(workdir: epath.Path, output: pathlib.Path) -> None:
    """Writes a run's selected network as one file; `exported` says what is in it.

    The weights are arguments of the program, not constants in it: NumPy reads them alone, and XLA,
    which folds constants, needn't see 124 MB of them when it compiles.

    Args:
        workdir: the run's folder.
        output: the file; whole or not at all, in the place of an older one.

    Raises:
        ValueError: no run or no good checkpoint there; a threshold that was to be chosen and
            wasn't; an `output` that can't be written.
    """
    config = with_known_threshold(workdir_lib.load_config(workdir), workdir)
    with config.unlocked():
        config.mesh.update(data=-1, space=1)  # The devices here, not those that trained.
    system = system_lib.make_system(config)
    like = system.abstract_state()
    state = checkpoint.load_selected(workdir, config.selection, like)
    weights = flatten(state)
    program = make_program(system, weights)
    members = {exported.PROGRAM: bytes(program.serialize())}
    members |= {f"{exported.WEIGHTS}{name}.npy": to_npy(x) for name, x in weights.items()}
    manifest = make_manifest(config, system, state, program, members)
    content = pack(manifest, members)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(epath.Path(output), content)
    except OSError as error:
        raise ValueError(f"--output: can't write {output} ({error.strerror}).") from error
    logging.info("step %d of %s: %s, %d bytes", state.step, workdir, output, len(content))


def with_known_threshold(config: mlc.ConfigDict, path: epath.Path) -> mlc.ConfigDict:
    """A copy; a threshold of 0 becomes the one that was chosen on the validation split.

    Raises:
        ValueError: none was chosen yet.
    """
    if config.task.get("threshold") != 0:
        return mlc.ConfigDict(config.to_dict())
    for split in evaluate.SPLITS:
        file = path / f"summary_{split}.json"
        if file.exists():
            return evaluate.with_threshold(config, json.loads(file.read_text())["threshold"])
    raise ValueError(
        f"{path}: task.threshold is chosen when the run is evaluated, and it wasn't; finish the "
        "run first."
    )


def flatten(state: train_step.TrainState) -> Weights:
    """Parameters and running statistics by path, "params/encoder_0/conv_0/kernel"."""
    trees = {"params": state.params, "batch_stats": state.batch_stats}
    return flax.traverse_util.flatten_dict(jax.device_get(trees), sep="/")


def make_program(system: system_lib.System, weights: Weights) -> jax.export.Exported:
    """What `train_step.eval_step` gives as "probs" and "preds", for `PLATFORMS`.

    A function of (weights, {"images"} or {"images", "masks"}), for any number of images and, where
    `multiples` says so, of any size.
    """

    def predict(weights: Weights, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        variables = flax.traverse_util.unflatten_dict(weights, sep="/")
        images = system.scale(batch["images"])
        # A task that hides nothing looks at no mask.
        inputs = system.task.inputs(images, batch.get("masks"))
        logits = system.model.apply(variables, inputs, train=False)
        probs = jax.nn.sigmoid(logits)
        return probs[..., 0], system.task.postprocess(probs)

    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), weights)
    export_for = jax.export.export(jax.jit(predict), platforms=PLATFORMS)
    return export_for(shapes, make_inputs(system))


def make_inputs(system: system_lib.System) -> dict[str, jax.ShapeDtypeStruct]:
    """What the program takes beside the weights: "images", and "masks" if the task needs lungs."""
    axes = ("d", "h", "w") if system.is_volumetric else ("h", "w")
    steps = multiples(system)
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


def make_manifest(
    config: mlc.ConfigDict,
    system: system_lib.System,
    state: train_step.TrainState,
    program: jax.export.Exported,
    members: Mapping[str, bytes],
) -> dict[str, Any]:
    """What the file says of itself, as JSON values; docs/export.md explains each."""
    task, is_volumetric = system.task, system.is_volumetric
    digests = {name: exported.sha256(content) for name, content in members.items()}
    weights = {name: x for name, x in digests.items() if name.startswith(exported.WEIGHTS)}
    whole = exported.sha256(json.dumps(weights, sort_keys=True).encode())
    return {
        "format": exported.FORMAT,
        "format_version": exported.VERSION,
        "notice": NOTICE,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "config": workdir_lib.to_json(config),
        "checkpoint": {
            "selection": config.selection,
            "step": int(state.step),
            "weights_sha256": whole,
        },
        "task": task.name,
        "records": task.records,
        "levels": list(task.levels),
        "borders": borders(task),
        "size": list(system.settings.input_shape),
        "resize": None if is_volumetric else system.settings.resize,
        "volumes": describe_volumes(system) if is_volumetric else None,
        "platforms": list(program.platforms),
        "calling_convention": program.calling_convention_version,
        "inputs": describe_inputs(make_inputs(system)),
        "outputs": describe_outputs(task),
        "sha256": digests,
    }


def versions() -> dict[str, str]:
    """Of Python and of what made the file."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
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
