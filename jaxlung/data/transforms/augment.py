"""Random changes to training images, inside jit: one affine warp, brightness and contrast.

Every image is changed independently, so the images of a batch stay on their devices.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Augment:
    """The ranges of random changes to training images; every amount is drawn uniformly.

    Attributes:
        flip_probability: probability of a left-right mirror image, [0, 1].
        rotation_degrees: largest angle in either direction, [0, 360].
        shift_fraction: largest shift in either direction, as a share of height and width, [0, 1].
        shear_degrees: largest slant of vertical lines in either direction, [0, 89].
        zoom_range: smallest and largest scale; above 1 enlarges.
        brightness: largest offset in either direction, where images are in [0, 1]; [0, 1].
        contrast: largest relative change of contrast about the image's mean, [0, 1].
    """

    flip_probability: float
    rotation_degrees: float
    shift_fraction: float
    shear_degrees: float
    zoom_range: tuple[float, float]
    brightness: float
    contrast: float

    def __post_init__(self) -> None:
        """Raises a ValueError for a field out of range, with its name, value and range."""
        limits = {
            "flip_probability": 1,
            "rotation_degrees": 360,
            "shift_fraction": 1,
            "shear_degrees": 89,
            "brightness": 1,
            "contrast": 1,
        }
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"augment.{name}: want 0 to {limit}, got {getattr(self, name)}.")
        if len(self.zoom_range) != 2 or not 0 < self.zoom_range[0] <= self.zoom_range[1]:
            raise ValueError(
                "augment.zoom_range: want two scales above 0, the smaller first, "
                f"got {self.zoom_range}."
            )

    @property
    def moves_pixels(self) -> bool:
        """True if images are warped."""
        amounts = (
            self.flip_probability,
            self.rotation_degrees,
            self.shift_fraction,
            self.shear_degrees,
        )
        return any(amounts) or tuple(self.zoom_range) != (1, 1)

    @property
    def changes_values(self) -> bool:
        """True if brightness or contrast vary."""
        return bool(self.brightness or self.contrast)

    @property
    def is_identity(self) -> bool:
        """True if images stay as they are."""
        return not (self.moves_pixels or self.changes_values)


def augment(
    images: jax.Array, masks: jax.Array, rng: jax.Array, settings: Augment
) -> tuple[jax.Array, jax.Array]:
    """Changes every image, and its mask along with it.

    Image i of a batch depends on `rng` and i alone, whatever the size of the batch.

    Args:
        images: [B, H, W, 1] float32 in [0, 1].
        masks: [B, H, W] uint8 bits.
        rng: a random key, which must not be used again.
        settings: ranges of the changes; if all are zero, the arguments are returned.

    Returns:
        Images and masks of the same shapes and types. Pixels from outside repeat the edge.
    """
    if settings.is_identity:
        return images, masks
    rng_warp, rng_exposure = jax.random.split(rng)
    if settings.moves_pixels:
        batch, height, width = masks.shape
        matrices = random_matrices(rng_warp, (batch, height, width), settings)
        images, masks = warp(images, masks, matrices)
    if settings.changes_values:
        images = vary_exposure(images, rng_exposure, settings)
    return images, masks


def random_matrices(rng: jax.Array, shape: tuple[int, int, int], settings: Augment) -> jax.Array:
    """Draws an affine matrix for every image.

    It flips, zooms, shears and rotates the content about the image's centre, then shifts it.

    Args:
        rng: a random key, which must not be used again.
        shape: (B, H, W).
        settings: ranges of the changes.

    Returns:
        [B, 2, 3] float32: (row, column, 1) of an output pixel to (row, column) in the input,
        which is `matrix` and `offset` of `scipy.ndimage.affine_transform` side by side.
    """
    mirror, angle, slant, zoom, down, right = _uniform(rng, shape[0], 6).T
    sign = jnp.where(mirror < settings.flip_probability, -1.0, 1.0)
    angle = math.radians(settings.rotation_degrees) * (2 * angle - 1)
    slant = jnp.tan(math.radians(settings.shear_degrees) * (2 * slant - 1))
    smallest, largest = settings.zoom_range
    zoom = smallest + (largest - smallest) * zoom
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    # The inverse of rotation * shear * zoom * flip, and offset = centre - inverse * (centre +
    # shift), written out: a TPU would round the factors of a matrix product to bfloat16.
    row_row, row_column = cos / zoom, sin / zoom
    column_row = -sign * (sin + slant * cos) / zoom
    column_column = sign * (cos - slant * sin) / zoom
    middle_row, middle_column = (shape[1] - 1) / 2, (shape[2] - 1) / 2
    row = middle_row + settings.shift_fraction * shape[1] * (2 * down - 1)
    column = middle_column + settings.shift_fraction * shape[2] * (2 * right - 1)
    row_offset = middle_row - row_row * row - row_column * column
    column_offset = middle_column - column_row * row - column_column * column
    entries = [row_row, row_column, row_offset, column_row, column_column, column_offset]
    return jnp.stack(entries, axis=1).reshape(-1, 2, 3)


def warp(images: jax.Array, masks: jax.Array, matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moves images (bilinear) and masks (nearest) in the same way; repeats the edge outside.

    Args:
        images: [B, H, W, 1] float32.
        masks: [B, H, W] uint8.
        matrices: [B, 2, 3] float32 from `random_matrices`.

    Returns:
        Images and masks of the same shapes and types.
    """
    pixels, masks = jax.vmap(_warp_one)(images[..., 0], masks, matrices)
    return pixels[..., None], masks


def vary_exposure(images: jax.Array, rng: jax.Array, settings: Augment) -> jax.Array:
    """Stretches contrast about each image's mean, adds brightness, and clips to [0, 1].

    Args:
        images: [B, H, W, 1] float32 in [0, 1].
        rng: a random key, which must not be used again.
        settings: ranges of the changes.

    Returns:
        [B, H, W, 1] float32 in [0, 1].
    """
    amounts = 2 * _uniform(rng, images.shape[0], 2)[:, :, None, None, None] - 1
    offset = settings.brightness * amounts[:, 0]
    factor = 1 + settings.contrast * amounts[:, 1]
    means = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return jnp.clip((images - means) * factor + means + offset, 0, 1)


def _uniform(rng: jax.Array, batch: int, count: int) -> jax.Array:
    """Returns [B, count] in [0, 1); row i depends on `rng` and i alone."""
    rngs = jax.vmap(lambda index: jax.random.fold_in(rng, index))(jnp.arange(batch))
    return jax.vmap(lambda rng: jax.random.uniform(rng, (count,), jnp.float32))(rngs)


def _warp_one(image: jax.Array, mask: jax.Array, matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Warps [H, W] float32 and [H, W] uint8 by a [2, 3] matrix: five gathers at flat indices."""
    height, width = image.shape
    rows = jnp.arange(height, dtype=jnp.float32)[:, None]
    columns = jnp.arange(width, dtype=jnp.float32)[None, :]
    # Clipping the coordinates repeats the edge.
    row = matrix[0, 0] * rows + matrix[0, 1] * columns + matrix[0, 2]
    row = jnp.clip(row, 0, height - 1)
    column = matrix[1, 0] * rows + matrix[1, 1] * columns + matrix[1, 2]
    column = jnp.clip(column, 0, width - 1)

    top, left = jnp.floor(row).astype(jnp.int32), jnp.floor(column).astype(jnp.int32)
    bottom, right = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
    down, across = row - top, column - left
    upper = _pixels(image, top, left) * (1 - across) + _pixels(image, top, right) * across
    lower = _pixels(image, bottom, left) * (1 - across) + _pixels(image, bottom, right) * across
    warped = upper * (1 - down) + lower * down
    nearest = jnp.round(row).astype(jnp.int32), jnp.round(column).astype(jnp.int32)
    return warped, _pixels(mask, *nearest)


def _pixels(image: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """Returns the image's values at integer coordinates, which must lie inside it."""
    flat = image.reshape(-1)
    return flat.at[row * image.shape[1] + column].get(mode="promise_in_bounds")
