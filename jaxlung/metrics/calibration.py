"""Whether probabilities mean what they say: how often there is foreground where 0.8 is predicted.

Pixels are sorted into 15 bins of equal width by their probability of foreground. Counts and sums
of bins add up over images, so that all errors come from one small table per image. They are made
on the host, where `scores.py` has probabilities and reference anyway: half a millisecond for
256 x 256 pixels, and no int32 that overflows nor float32 that loses what a million pixels share.
"""

import numpy as np

NUM_BINS = 15  # Guo et al. (2017)


def count(levels: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of an image by bin and reference. A bin holds its lower edge, the last one 1 too.

    Args:
        levels: 0 or 1, of any shape, or of nothing.
        probs: same shape, float in [0, 1].

    Returns:
        [15, 2] int64 pixels by bin and reference; [15] float64 sums of their probabilities.

    Raises:
        ValueError: `levels` and `probs` differ in shape.
    """
    if levels.shape != probs.shape:
        raise ValueError(f"calibration: levels {levels.shape} and probs {probs.shape} must agree.")
    bins = np.clip((probs * NUM_BINS).astype(np.intp), 0, NUM_BINS - 1).ravel()
    pairs = np.bincount(2 * bins + levels.ravel(), minlength=2 * NUM_BINS)
    sums = np.bincount(bins, weights=probs.ravel(), minlength=NUM_BINS)
    return pairs.reshape(NUM_BINS, 2), sums


def errors(counts: np.ndarray, sums: np.ndarray) -> dict[str, np.ndarray]:
    """How far mean probability and observed share of foreground lie apart.

    Args:
        counts: [..., 15, 2] by bin and reference.
        sums: [..., 15] of probabilities.

    Returns:
        "ece", expected calibration error: the mean of the bins' gaps, weighted by their pixels
        (Naeini et al., 2015); "ace", average calibration error: every bin that is not empty counts
        alike (Neumann et al., 2018). Both [...] float64 in [0, 1], NaN of nothing.
    """
    pixels = counts.sum(axis=-1)
    gaps = np.abs(counts[..., 1] - sums)  # Times the bin's pixels.
    total, filled = pixels.sum(axis=-1), (pixels > 0).sum(axis=-1)
    means = (gaps / np.maximum(pixels, 1)).sum(axis=-1)
    return {
        "ece": np.where(filled > 0, gaps.sum(axis=-1) / np.maximum(total, 1), np.nan),
        "ace": np.where(filled > 0, means / np.maximum(filled, 1), np.nan),
    }
