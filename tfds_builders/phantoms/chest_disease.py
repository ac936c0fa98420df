"""Draws opacities in the lungs of a phantom: labelled infection, and others that resemble it."""

import numpy as np

from tfds_builders.phantoms import chest_anatomy

Rng = np.random.Generator


def infection(rng: Rng, frame: chest_anatomy.Frame, lungs: chest_anatomy.Lungs) -> tuple:
    """Draws ground glass: patches with soft, irregular edges, mostly peripheral and basal.

    Returns:
        opacity: [S, S] float32 in [0, 1], share of the air that is filled.
        mask: [S, S] bool, the pixels within the lungs with at least half of the full strength.
    """
    size = len(frame.x)
    inside = lungs.depth > 0
    patches = chest_anatomy.smooth_noise(rng, size, 7)
    patches = patches + 0.2 * chest_anatomy.smooth_noise(rng, size, 18)
    periphery = np.abs(frame.x) / lungs.half_width
    # Many patients have one lung far worse than the other.
    bias = 0.9 * frame.y + 1.2 * periphery + rng.normal(0, 0.5) * np.sign(frame.x)
    field = patches + bias
    share = rng.uniform(0.08, 0.45)  # Share of the lungs' area.
    level = float(np.quantile(field[inside], 1 - share)) if inside.any() else np.inf
    strength = rng.uniform(0.3, 0.85)
    mottle = 1 + 0.25 * chest_anatomy.smooth_noise(rng, size, max(2, size // 6))
    soft = chest_anatomy.step(field - level, rng.uniform(0.25, 0.5))
    return np.clip(strength * mottle * soft, 0, 1), inside & (field > level)


def lobar_pneumonia(rng: Rng, frame: chest_anatomy.Frame, lungs: chest_anatomy.Lungs) -> np.ndarray:
    """Draws an unlabelled opacity: one lobe, even and dense up to the fissure, or fluid at a base.

    Returns:
        [S, S] float32 in [0, 1], share of the air that is filled.
    """
    lung, side = [(lungs.right, -1), (lungs.left, 1)][rng.integers(2)]
    u = side * frame.x
    fissure = rng.uniform(-0.25, 0.2) + rng.uniform(-0.3, 0.3) * (u - 0.35)
    upper = rng.uniform() < 0.5
    lobe = fissure - frame.y if upper else frame.y - fissure - 0.15
    filled = chest_anatomy.step(np.minimum(lobe, lung), 0.012) * rng.uniform(0.5, 0.9)
    meniscus = frame.y - rng.uniform(0.35, 0.5) + 0.5 * np.clip(u - 0.4, 0, 1) ** 2
    fluid = chest_anatomy.step(np.minimum(meniscus, lung), 0.02)
    return filled if rng.uniform() < 0.7 else fluid
