"""Hounsfield units (HU): converts a file's values, checks that they look right, scales windows."""

import jax
import numpy as np

# The range that scanners store in 12 bits. Below -1024 HU is scanner padding, not air.
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

# Our limits for values that can't be a CT's on any scale: in a CT air and tissue lie 1000 HU apart,
# and noise spreads both.
_LEAST_SPAN = 32
_MOST_LABELS = 16  # different values
_SAMPLE = 100_000  # voxels


def to_hu(values: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Converts a file's values to HU; the values alone decide how, not the file's name.

    Values that all lie in [0, 255] are taken to be windowed: HU = v / 255 * 1500 - 1250, as in the
    Radiopaedia volumes of Ma et al. (2021). All other values are taken to be HU. Both are clipped
    to [-1024, 3071] (our choice), which turns padding, and the window's lowest 226 HU, into air.

    Args:
        values: integers or floats of any shape.
        name: name of the file, for messages.

    Returns:
        int16 HU, rounded, of the same shape; and "windowed" or "hu".

    Raises:
        ValueError: there are no values, or one is NaN or infinite.
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
    """Raises ValueError for values that are no CT, such as labels or z-scores.

    Args:
        values: the values as stored, finite, of any shape.
        name: name of the file, for messages.

    Raises:
        ValueError: the least and the greatest value are less than 32 apart; or there are at most
            16 different values and none in the range of air.
    """
    span = _span(values)
    if float(values.max()) - float(values.min()) < _LEAST_SPAN:
        raise ValueError(
            f"{name}: want a CT in Hounsfield units, where air and tissue lie 1000 apart, got "
            f"{span}: are they labels, or scaled?"
        )
    if _has_few_levels(values) and not _has_air(values):
        raise ValueError(
            f"{name}: want a CT in Hounsfield units, got {span} and at most {_MOST_LABELS} "
            "different ones: are they the labels of a mask?"
        )


def doubt(values: np.ndarray, *, window: str = "assumed") -> str | None:
    """Returns a reason to doubt that the values of a chest CT are HU, or None.

    Args:
        values: the values as stored, before `to_hu` clips them; not empty.
        window: meaning of values that lie in [0, 255]: "assumed" if `to_hu` will take them for
            windowed ones; "known" if the dataset is known to have that window; "none" if they
            will be used as HU.

    Returns:
        A sentence with the range of values, for a warning that begins with the file's name; None
        if the values look right.
    """
    span = _span(values)
    if _is_windowed(values) and window != "none":
        return None if window == "known" else f"{span}: not HU. {_WINDOW_IS_A_GUESS}"
    if values.max() > _HIGHEST_BELIEVABLE_HU:
        return f"{span}: no tissue is above {_HIGHEST_BELIEVABLE_HU} HU."
    if values.min() >= 0:
        return f"{span}: nothing below 0 HU; was the rescale intercept (often -1024) left out?"
    if not _has_air(values):
        return f"{span}: hardly any voxel of air, {_AIR_HU[0]} to {_AIR_HU[1]} HU."
    return None


def scale(hu: jax.Array | np.ndarray, window: tuple[float, float]) -> jax.Array | np.ndarray:
    """Scales a window of HU to [0, 1]: clip((hu - low) / (high - low), 0, 1).

    Args:
        hu: HU of any shape, on the host, on the device or inside `jit`.
        window: lower and upper end in HU.

    Returns:
        float32 of the same shape and in the same place.

    Raises:
        ValueError: the lower end is not below the upper one.
    """
    low, high = window
    if not low < high:
        raise ValueError(f"window: want low < high in HU, got {window}.")
    return ((hu.astype("float32") - low) / (high - low)).clip(0, 1)


def _span(values: np.ndarray) -> str:
    return f"values from {values.min():g} to {values.max():g}"


def _has_air(values: np.ndarray) -> bool:
    num_air = np.count_nonzero((values >= _AIR_HU[0]) & (values <= _AIR_HU[1]))
    return bool(num_air >= _LEAST_AIR * values.size)


def _has_few_levels(values: np.ndarray) -> bool:
    # Sorting all voxels of a CT takes seconds; a sample is enough to find more than a few values.
    sample = values.reshape(-1, order="A")[:: max(1, values.size // _SAMPLE)]
    return all(np.unique(part).size <= _MOST_LABELS for part in (sample, values))


def _is_windowed(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= _WINDOW_LEVELS)


def _rounded(hu: np.ndarray) -> np.ndarray:
    if hu.dtype != np.int16:
        # As float32, because unsigned types can't hold -1024.
        hu = np.rint(hu.astype(np.float32, copy=False))
    return np.clip(hu, LOWEST_HU, HIGHEST_HU).astype(np.int16, copy=False)
