"""A trained network as an ONNX file, held against its JAX program before anybody gets it."""

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax2onnx
import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_state

TOLERANCE = 1e-4  # of a probability
BATCH_SIZES = (1, 3)
MANIFEST = "manifest"  # the key in the file's metadata
OPSET = 18  # of 2022; the first with bitwise operations
OUTPUTS = ("probs", "preds")
# What onnxruntime raises of a file that it can't load or run.
REFUSALS = (
    runtime_state.Fail,
    runtime_state.InvalidArgument,
    runtime_state.InvalidGraph,
    runtime_state.InvalidProtobuf,
    runtime_state.NotImplemented,
    runtime_state.RuntimeException,
)

# (weights, {"images", maybe "masks"}) -> probabilities, levels
Predict = Callable[[Any, dict[str, Any]], tuple[jax.Array, jax.Array]]
Inputs = Mapping[str, jax.ShapeDtypeStruct]


def build(predict: Predict, weights: Any, inputs: Inputs, manifest: Mapping[str, Any]) -> bytes:
    """The file's bytes.

    Args:
        predict: the program; scaling and thresholds are in it.
        weights: float32 arrays, its first argument.
        inputs: of the program: any number of images, of one size.
        manifest: what the file says of itself, JSON values; "borders" are looked at here.

    Raises:
        ValueError: an operation without a translation, or onnxruntime gives something else than
            JAX.
    """
    content = to_model(predict, weights, inputs, manifest).SerializeToString()
    check(content, predict, weights, inputs, manifest["borders"])
    return content


def to_model(
    predict: Predict, weights: Any, inputs: Inputs, manifest: Mapping[str, Any]
) -> onnx.ModelProto:
    """The program as an ONNX model, its weights constants, not yet compared with anything.

    Raises:
        ValueError: an operation that jax2onnx doesn't know.
    """
    names = sorted(inputs)

    def program(*args: jax.Array) -> tuple[jax.Array, jax.Array]:
        return predict(weights, dict(zip(names, args, strict=True)))

    try:
        with _quiet(), _as_on_cpus():
            model = jax2onnx.to_onnx(
                program,
                [inputs[name] for name in names],
                model_name="jaxlung",
                opset=OPSET,
                input_names=names,
                output_names=OUTPUTS,
            )
    except Exception as error:  # It raises what Python and JAX have; it has no error of its own.
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise ValueError(
            f"--output: jax2onnx can't write this network as ONNX ({reason}); a .jaxlung file "
            "holds any network."
        ) from error
    # Shapes in between are an aid to readers, and some that it notes are wrong.
    del model.graph.value_info[:]
    model.doc_string = manifest["notice"]
    onnx.helper.set_model_props(model, {MANIFEST: json.dumps(manifest)})
    return model


@contextlib.contextmanager
def _as_on_cpus() -> Iterator[None]:
    """`jax.lax.platform_dependent` with the choice made, which jax2onnx doesn't know.

    On a CPU 3D convolutions are made of 2D ones; others it doesn't know either.
    """

    def choose(*args: Any, cpu: Callable[..., Any], **_: Any) -> Any:
        return cpu(*args)

    original, jax.lax.platform_dependent = jax.lax.platform_dependent, choose
    try:
        yield
    finally:
        jax.lax.platform_dependent = original


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of jax2onnx, which are about its own insides."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check(
    content: bytes, predict: Predict, weights: Any, inputs: Inputs, borders: Sequence[float]
) -> None:
    """Compares the file with the program on made-up images, in batches of two sizes.

    Raises:
        ValueError: onnxruntime can't read the file; probabilities are more than `TOLERANCE` apart,
            or levels are not those of the file's own probabilities.
    """
    batches = [random_batch(inputs, size) for size in BATCH_SIZES]
    for batch, (probs, preds) in zip(batches, _run_file(content, batches), strict=True):
        _require_same(probs, preds, _run(predict, weights, batch), borders)


def _run_file(
    content: bytes, batches: Sequence[dict[str, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # What it refuses is raised.
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        return [session.run(OUTPUTS, batch) for batch in batches]
    except REFUSALS as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"--output: onnxruntime refuses the network ({reason}).") from error


def _run(predict: Predict, weights: Any, batch: dict[str, np.ndarray]) -> np.ndarray:
    # On accelerators products of float32 are rounded to fewer bits where nobody asks.
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(predict)(weights, batch)[0])


def _require_same(
    probs: np.ndarray, preds: np.ndarray, want: np.ndarray, borders: Sequence[float]
) -> None:
    same_kind = probs.shape == want.shape and preds.shape == want.shape
    apart = float(np.max(np.abs(probs - want))) if same_kind else np.inf
    if not apart <= TOLERANCE:  # NaN is not.
        raise ValueError(
            f"--output: onnxruntime's probabilities are {apart:.2g} from JAX's, want at most "
            f"{TOLERANCE:g}; not written."
        )
    levels = sum((probs > np.float32(border)).astype(np.uint8) for border in borders)
    if not np.array_equal(levels, preds):
        raise ValueError(
            "--output: onnxruntime's levels are not of its probabilities; not written."
        )


def random_batch(inputs: Inputs, size: int) -> dict[str, np.ndarray]:
    """Made-up images with blocks and noise in them, and masks with lungs."""
    np_rng = np.random.default_rng(size)
    batch = {}
    for name, spec in inputs.items():
        shape = (size, *(int(pixels) for pixels in spec.shape[1:]))
        coarse = np_rng.random([size, *(-(-pixels // 8) for pixels in shape[1:])])
        blocks = np.kron(coarse, np.ones([1, *[8] * (len(shape) - 1)]))
        blocks = blocks[tuple(slice(pixels) for pixels in shape)]
        if name == "masks":
            batch[name] = (blocks > 0.4).astype(spec.dtype)
            continue
        low, high = (0, 255) if spec.dtype == np.uint8 else (-1200, 300)  # grey, or HU of a chest
        share = 0.7 * blocks + 0.3 * np_rng.random(shape)
        batch[name] = (low + (high - low) * share).astype(spec.dtype)
    return batch
