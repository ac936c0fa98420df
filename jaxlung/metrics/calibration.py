"""Calibration: how often a pixel is foreground where, say, 0.8 is predicted.

Pixels are sorted into 15 bins of equal width by their probability of foreground. Counts and sums
of bins add up over images, so that all errors come from one small table per image. The tables are
made on the host, where the evaluation holds probabilities and reference anyway. This takes half a
millisecond for 256 x 256 pixels and avoids int32 overflow and float32 rounding over many pixels.
"""

import numpy as np

NUM_BINS = 15  # Guo et al. (2017)


def count(levels: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts the pixels of an image by bin of probability and by reference.

    A bin includes its lower edge; the last bin also includes 1.

    Args:
        levels: reference, 0 or 1, of any shape, possibly empty.
        probs: float probabilities of foreground in [0, 1], the shape of `levels`.

    Returns:
        [15, 2] int64 numbers of pixels by bin and reference; [15] float64 sums of their
        probabilities by bin.

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
    """Returns two means of the gaps between mean probability and share of foreground in each bin.

    Args:
        counts: [..., 15, 2] numbers of pixels by bin and reference.
        sums: [..., 15] sums of their probabilities.

    Returns:
        "ece", expected calibration error (Naeini et al., 2015), which weighs each bin by its
        pixels; "ace", average calibration error (Neumann et al., 2018), which weighs all bins with
        pixels equally. Both are [...] float64 in [0, 1], NaN without any pixel.
    """
    pixels = counts.sum(axis=-1)
    gaps = np.abs(counts[..., 1] - sums)  # Each gap times the bin's number of pixels.
    total, filled = pixels.sum(axis=-1), (pixels > 0).sum(axis=-1)
    means = (gaps / np.maximum(pixels, 1)).sum(axis=-1)
    return {
        "ece": np.where(filled > 0, gaps.sum(axis=-1) / np.maximum(total, 1), np.nan),
        "ace": np.where(filled > 0, means / np.maximum(filled, 1), np.nan),
    }
