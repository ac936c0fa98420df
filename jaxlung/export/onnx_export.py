"""Makes an ONNX file of a trained network and compares it with the JAX program."""

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
OPSET = 18  # The first one, of 2022, with bitwise operations.
OUTPUTS = ("probs", "preds")
# The errors that onnxruntime raises for a file that it can't load or run.
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
    """Returns the bytes of the ONNX file, after comparing its outputs with JAX's.

    Args:
        predict: the program, with scaling and thresholds.
        weights: float32 arrays, the program's first argument.
        inputs: shapes of the program's inputs: any number of images of one size.
        manifest: the description to store in the file, JSON values; its "borders" are checked.

    Raises:
        ValueError: jax2onnx can't translate an operation, or onnxruntime's outputs differ from
            JAX's.
    """
    content = to_model(predict, weights, inputs, manifest).SerializeToString()
    check(content, predict, weights, inputs, manifest["borders"])
    return content


def to_model(
    predict: Predict, weights: Any, inputs: Inputs, manifest: Mapping[str, Any]
) -> onnx.ModelProto:
    """Returns the program as an ONNX model with its weights as constants, not yet checked.

    Raises:
        ValueError: jax2onnx can't translate an operation.
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
    except Exception as error:  # jax2onnx has no error class of its own and raises any.
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise ValueError(
            f"FILE: jax2onnx can't write this network as ONNX ({reason}); a .jaxlung file "
            "holds any network."
        ) from error
    # The shapes of intermediate values are optional, and jax2onnx gets some of them wrong.
    del model.graph.value_info[:]
    model.doc_string = manifest["notice"]
    onnx.helper.set_model_props(model, {MANIFEST: json.dumps(manifest)})
    return model


@contextlib.contextmanager
def _as_on_cpus() -> Iterator[None]:
    """Makes `jax.lax.platform_dependent`, which jax2onnx can't translate, choose a CPU's branch.

    That branch makes 3D convolutions of 2D ones; jax2onnx can't translate the other branches.
    """

    def choose(*args: Any, **branches: Callable[..., Any]) -> Any:
        return branches.get("cpu", branches["default"])(*args)

    original = jax.lax.platform_dependent
    jax.lax.platform_dependent = choose  # type: ignore[assignment] # It needs no other branch.
    try:
        yield
    finally:
        jax.lax.platform_dependent = original


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the warnings of jax2onnx, which concern its own internals."""
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
    """Compares the file with the program on random images, in batches of two sizes.

    Raises:
        ValueError: onnxruntime can't read the file, probabilities differ by more than
            `TOLERANCE`, or the levels don't follow from the file's own probabilities.
    """
    batches = [random_batch(inputs, size) for size in BATCH_SIZES]
    for batch, (probs, preds) in zip(batches, _run_file(content, batches), strict=True):
        _require_same(probs, preds, _run(predict, weights, batch), borders)


def _run_file(
    content: bytes, batches: Sequence[dict[str, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # Fatal: other errors are raised, so they needn't be printed.
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        return [session.run(OUTPUTS, batch) for batch in batches]
    except REFUSALS as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"FILE: onnxruntime refuses the network ({reason}).") from error


def _run(predict: Predict, weights: Any, batch: dict[str, np.ndarray]) -> np.ndarray:
    # Accelerators round products of float32 to fewer bits by default.
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(predict)(weights, batch)[0])


def _require_same(
    probs: np.ndarray, preds: np.ndarray, want: np.ndarray, borders: Sequence[float]
) -> None:
    same_kind = probs.shape == want.shape and preds.shape == want.shape
    apart = float(np.max(np.abs(probs - want))) if same_kind else np.inf
    if not apart <= TOLERANCE:  # Also true for NaN.
        raise ValueError(
            f"FILE: onnxruntime's probabilities differ from JAX's by {apart:.2g}, want at most "
            f"{TOLERANCE:g}; nothing was written."
        )
    levels = sum((probs > np.float32(border)).astype(np.uint8) for border in borders)
    if not np.array_equal(levels, preds):
        raise ValueError(
            "FILE: onnxruntime's levels don't follow from its probabilities; nothing was written."
        )


def random_batch(inputs: Inputs, size: int) -> dict[str, np.ndarray]:
    """Returns random images of blocks and noise, and masks with blocks of lung."""
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
        low, high = (0, 255) if spec.dtype == np.uint8 else (-1200, 300)  # grey levels, or HU
        share = 0.7 * blocks + 0.3 * np_rng.random(shape)
        batch[name] = (low + (high - low) * share).astype(spec.dtype)
    return batch
