"""Temperature scaling: one number that makes probabilities match how often they are right.

Logits are divided by a temperature T before the sigmoid (Guo et al., 2017, section 4.2). T above 1
makes probabilities less extreme, T below 1 more. It is the T with the lowest negative
log-likelihood on held-out data.

A split has too many pixels to keep their logits. They are counted on the host, in 64 bits, by
reference and by narrow bins of the logit. The mean of a bin's logits stands for all of them, which
leaves an error below 8e-6 nats per pixel at T = 1.
"""

import math

import numpy as np
from scipy import optimize, special

BIN_WIDTH = 1 / 64  # of a logit
LARGEST = 128.0  # Beyond it the likelihood is linear in the logit, so the mean is exact.
NUM_BINS = 2 * round(LARGEST / BIN_WIDTH)
RANGE = (0.05, 20.0)  # of T; networks in use are far from both ends (our choice)


def count(levels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Counts pixels by reference and logit.

    Args:
        levels: reference, 0 or 1, of any shape, possibly empty.
        logits: finite float32 logits of foreground, the shape of `levels`.

    Returns:
        [2, 2, NUM_BINS] float64: numbers of pixels and sums of their logits, each by reference and
        by bin. They add up over images.

    Raises:
        ValueError: `levels` and `logits` differ in shape.
    """
    if levels.shape != logits.shape:
        raise ValueError(
            f"temperature: levels {levels.shape} and logits {logits.shape} must agree."
        )
    values = logits.ravel().astype(np.float64)
    inside = np.clip(values, -LARGEST, LARGEST)
    bins = np.minimum(((inside + LARGEST) / BIN_WIDTH).astype(np.intp), NUM_BINS - 1)
    index = levels.ravel().astype(np.intp) * NUM_BINS + bins
    size = 2 * NUM_BINS
    tables = [np.bincount(index, weights, size) for weights in (None, values)]
    return np.array(tables, np.float64).reshape(2, 2, NUM_BINS)


def fit(table: np.ndarray) -> float | None:
    """Returns the temperature with the lowest negative log-likelihood.

    The likelihood is concave in 1 / T, so its slope has one zero at most.

    Args:
        table: [2, 2, NUM_BINS] from `count`, summed over images.

    Returns:
        A float64 inside `RANGE`. None if the likelihood has its maximum outside, which says that
        the data don't determine T: the split has a single class, the logits separate its classes
        without an error, or they tell nothing about them.
    """
    counts, sums = table
    means = sums / np.maximum(counts, 1)

    def slope(inverse: float) -> float:
        """Returns the derivative of the negative log-likelihood by 1 / T."""
        return float(np.sum(sums * special.expit(inverse * means)) - np.sum(sums[1]))

    low, high = 1 / RANGE[1], 1 / RANGE[0]
    if not slope(low) < 0 < slope(high):
        return None
    return 1 / optimize.brentq(slope, low, high, xtol=1e-12)


def mean_loss(table: np.ndarray, temperature: float) -> float:
    """Returns the negative log-likelihood per pixel in nats; NaN for an empty table.

    Args:
        table: [2, 2, NUM_BINS] from `count`, summed over images.
        temperature: number above 0 that logits are divided by.
    """
    counts, sums = table
    if not counts.any():
        return math.nan
    scaled = sums / np.maximum(counts, 1) / temperature
    # -log sigmoid(z) where the reference is 1, -log sigmoid(-z) where it is 0.
    losses = np.logaddexp(0, scaled * np.array([[1], [-1]]))
    return float(np.sum(counts * losses) / counts.sum())
