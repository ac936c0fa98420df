"""Hounsfield units (HU): values of a file on that scale, doubts about them, windows."""

import jax
import numpy as np

# The scale of 12 bits that scanners store. Below -1024 HU is scanner padding, not air.
LOWEST_HU = -1024
HIGHEST_HU = 3071

# The window of the Radiopaedia volumes of COVID-19-CT-Seg: [-1250, 250] HU became [0, 255].
_WINDOW_LOW_HU = -1250
_WINDOW_WIDTH_HU = 1500
_WINDOW_LEVELS = 255
_WINDOW_IS_A_GUESS = (
    "The window of -1250 to 250 HU is assumed; after any other one lungs and volumes are wrong. "
    "Give the CT in HU."
)

_AIR_HU = (-1100, -500)  # lungs and what surrounds the patient
_LEAST_AIR = 1e-3  # share of the voxels
_HIGHEST_BELIEVABLE_HU = 10_000  # metal may pass 3071 on an extended scale

# Our choices of what no CT has, on whatever scale: air and tissue lie 1000 HU apart, and noise
# spreads both.
_LEAST_SPAN = 32
_MOST_LABELS = 16  # different values
_SAMPLE = 100_000  # voxels


def to_hu(values: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """A file's values as HU, by what they are and not by what the file is called.

    Values that all lie in [0, 255] were windowed before: HU = v / 255 * 1500 - 1250 (Ma et al.,
    2021, of their Radiopaedia volumes). Anything else is HU. Both are clipped to
    [-1024, 3071] (our choice), which makes padding, and the window's lowest 226 HU, air.

    Args:
        values: of any shape, integer or float.
        name: what errors call the file.

    Returns:
        int16 HU, rounded, of the same shape; "windowed" or "hu".

    Raises:
        ValueError: no values, or a NaN or infinite one.
    """
    if not values.size or not np.isfinite([values.min(), values.max()]).all():
        raise ValueError(f"{name}: want finite voxels, got NaN, infinity or none.")
    if _is_windowed(values):
        hu = values.astype(np.float32)
        hu *= _WINDOW_WIDTH_HU / _WINDOW_LEVELS
        hu += _WINDOW_LOW_HU
        return _rounded(hu), "windowed"
    return _rounded(values), "hu"


def require_ct(values: np.ndarray, name: str) -> None:
    """Refuses values that are neither HU nor a window of them, such as labels or z-scores.

    Args:
        values: as stored, finite, of any shape.
        name: what errors call the file.

    Raises:
        ValueError: least and greatest are fewer than 32 apart; or there are 16 different values
            or fewer, and none where air is.
    """
    span = _span(values)
    if float(values.max()) - float(values.min()) < _LEAST_SPAN:
        raise ValueError(
            f"{name}: want a CT in Hounsfield units, where air and tissue lie 1000 apart, got "
            f"{span}: labels, or scaled?"
        )
    if _has_few_levels(values) and not _has_air(values):
        raise ValueError(
            f"{name}: want a CT in Hounsfield units, got {span} and at most {_MOST_LABELS} "
            "different ones: the labels of a mask?"
        )


def doubt(values: np.ndarray, *, window: str = "assumed") -> str | None:
    """Says what speaks against values of a chest CT being HU.

    Args:
        values: as stored, before `to_hu` clips them; not empty.
        window: what is made of values in [0, 255]: "assumed", as of any file that `to_hu` gets;
            "known", where its dataset has that window; "none", where they are used as HU.

    Returns:
        A sentence with their range, to go into a warning after the file's name; None if they
        look right.
    """
    span = _span(values)
    if _is_windowed(values) and window != "none":
        return None if window == "known" else f"{span}: not HU. {_WINDOW_IS_A_GUESS}"
    if values.max() > _HIGHEST_BELIEVABLE_HU:
        return f"{span}: no tissue is above {_HIGHEST_BELIEVABLE_HU} HU."
    if values.min() >= 0:
        return f"{span}: nothing below 0 HU; was the rescale intercept (often -1024) left out?"
    if not _has_air(values):
        return f"{span}: hardly a voxel between {_AIR_HU[0]} and {_AIR_HU[1]} HU, where air is."
    return None


def scale(hu: jax.Array | np.ndarray, window: tuple[float, float]) -> jax.Array | np.ndarray:
    """A window of HU to [0, 1]: clip((hu - low) / (high - low), 0, 1).

    Args:
        hu: of any shape; on the host, or on the device and inside `jit`.
        window: low and high in HU.

    Returns:
        float32 of the same shape, where `hu` is.

    Raises:
        ValueError: `window` is empty or upside down.
    """
    low, high = window
    if not low < high:
        raise ValueError(f"window: want low < high in HU, got {window}.")
    return ((hu.astype("float32") - low) / (high - low)).clip(0, 1)


def _span(values: np.ndarray) -> str:
    return f"values from {values.min():g} to {values.max():g}"


def _has_air(values: np.ndarray) -> bool:
    num_air = np.count_nonzero((values >= _AIR_HU[0]) & (values <= _AIR_HU[1]))
    return num_air >= _LEAST_AIR * values.size


def _has_few_levels(values: np.ndarray) -> bool:
    # Sorting a whole CT takes seconds, and a few slices of one are enough to clear it.
    sample = values.reshape(-1, order="A")[:: max(1, values.size // _SAMPLE)]
    return all(np.unique(part).size <= _MOST_LABELS for part in (sample, values))


def _is_windowed(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= _WINDOW_LEVELS)


def _rounded(hu: np.ndarray) -> np.ndarray:
    if hu.dtype != np.int16:
        # As float32, because an unsigned dtype has no -1024 to clip to.
        hu = np.rint(hu.astype(np.float32, copy=False))
    return np.clip(hu, LOWEST_HU, HIGHEST_HU).astype(np.int16, copy=False)
