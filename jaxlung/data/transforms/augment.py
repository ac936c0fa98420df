"""Random changes to training images, inside jit: one warp, then sharpness, exposure and noise.

Every image is changed independently, so the images of a batch stay on their devices.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxlung.data.transforms import sharpness

# Control points of an elastic warp along each axis. Fewer would be an affine warp, more would bend
# ribs (our choice).
_POINTS = 6


@dataclasses.dataclass(frozen=True)
class Augment:
    """The ranges of random changes to training images; every amount is drawn uniformly.

    Attributes:
        flip_probability: probability of a left-right mirror image, [0, 1].
        rotation_degrees: largest angle in either direction, [0, 360].
        shift_fraction: largest shift in either direction, as a share of height and width, [0, 1].
        shear_degrees: largest slant of vertical lines in either direction, [0, 89].
        zoom_range: smallest and largest scale; above 1 enlarges.
        elastic_fraction: largest displacement of a smooth random warp along each axis, as a share
            of height and width, [0, 0.1].
        brightness: largest offset in either direction, where images are in [0, 1]; [0, 1].
        contrast: largest relative change of contrast about the image's mean, [0, 1].
        gamma: grey values are raised to a power between 1 / (1 + gamma) and 1 + gamma, whose
            logarithm is drawn uniformly; [0, 3].
        noise_std: largest standard deviation of Gaussian noise, where images are in [0, 1]; [0, 1].
        blur_pixels: largest standard deviation of a Gaussian blur, in pixels; [0, 10].
        low_resolution: largest share of the resolution that is lost along each axis; [0, 0.9].
    """

    flip_probability: float
    rotation_degrees: float
    shift_fraction: float
    shear_degrees: float
    zoom_range: tuple[float, float]
    elastic_fraction: float
    brightness: float
    contrast: float
    gamma: float
    noise_std: float
    blur_pixels: float
    low_resolution: float

    def __post_init__(self) -> None:
        """Raises a ValueError for a field out of range, with its name, value and range."""
        limits = {
            "flip_probability": 1,
            "rotation_degrees": 360,
            "shift_fraction": 1,
            "shear_degrees": 89,
            "elastic_fraction": 0.1,
            "brightness": 1,
            "contrast": 1,
            "gamma": 3,
            "noise_std": 1,
            "blur_pixels": 10,
            "low_resolution": 0.9,
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
            self.elastic_fraction,
        )
        return any(amounts) or tuple(self.zoom_range) != (1, 1)

    @property
    def changes_exposure(self) -> bool:
        """True if brightness or contrast vary."""
        return bool(self.brightness or self.contrast)

    @property
    def changes_sharpness(self) -> bool:
        """True if images are blurred or lose resolution."""
        return bool(self.blur_pixels or self.low_resolution)

    @property
    def is_identity(self) -> bool:
        """True if images stay as they are."""
        values = self.changes_exposure or self.changes_sharpness or self.gamma or self.noise_std
        return not (self.moves_pixels or values)


OFF = Augment(
    flip_probability=0.0,
    rotation_degrees=0.0,
    shift_fraction=0.0,
    shear_degrees=0.0,
    zoom_range=(1.0, 1.0),
    elastic_fraction=0.0,
    brightness=0.0,
    contrast=0.0,
    gamma=0.0,
    noise_std=0.0,
    blur_pixels=0.0,
    low_resolution=0.0,
)


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
    rng_warp, rng_exposure, rng_bend, rng_sharpness, rng_gamma, rng_noise = jax.random.split(rng, 6)
    batch, height, width = masks.shape
    if settings.moves_pixels:
        matrices = random_matrices(rng_warp, (batch, height, width), settings)
        bends = random_bends(rng_bend, batch, settings) if settings.elastic_fraction else None
        images, masks = warp(images, masks, matrices, bends)
    if settings.changes_sharpness:
        images = vary_sharpness(images, rng_sharpness, settings)
    if settings.changes_exposure:
        images = vary_exposure(images, rng_exposure, settings)
    if settings.gamma:
        images = vary_gamma(images, rng_gamma, settings)
    if settings.noise_std:
        images = vary_noise(images, rng_noise, settings)
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


def random_bends(rng: jax.Array, batch: int, settings: Augment) -> jax.Array:
    """Draws the displacements at the control points of an elastic warp.

    Args:
        rng: a random key, which must not be used again.
        batch: number of images.
        settings: `elastic_fraction` is the largest displacement.

    Returns:
        [B, 2, P, P] float32, along rows and columns, as shares of height and width.
    """
    amounts = _uniform(rng, batch, 2 * _POINTS**2).reshape(batch, 2, _POINTS, _POINTS)
    return settings.elastic_fraction * (2 * amounts - 1)


def warp(
    images: jax.Array, masks: jax.Array, matrices: jax.Array, bends: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Moves images (bilinear) and masks (nearest) in the same way; repeats the edge outside.

    Args:
        images: [B, H, W, 1] float32.
        masks: [B, H, W] uint8.
        matrices: [B, 2, 3] float32 from `random_matrices`.
        bends: [B, 2, P, P] float32 from `random_bends`; None for an affine warp.

    Returns:
        Images and masks of the same shapes and types.
    """
    _, height, width = masks.shape
    if bends is None:
        pixels, masks = jax.vmap(_warp_one)(images[..., 0], masks, matrices)
    else:
        moves = _spread(bends, height, width)
        pixels, masks = jax.vmap(_warp_one)(images[..., 0], masks, matrices, moves)
    return pixels[..., None], masks


def _spread(bends: jax.Array, height: int, width: int) -> jax.Array:
    """Returns displacements [B, 2, H, W] in pixels, a cubic B-spline through control points.

    No matrix products: a TPU would round their factors to bfloat16.
    """
    along_rows, along_columns = _spline(height), _spline(width)
    moves = jnp.zeros((*bends.shape[:2], height, width), jnp.float32)
    for i in range(_POINTS):
        for j in range(_POINTS):
            basis = along_rows[:, i, None] * along_columns[None, :, j]
            moves = moves + bends[:, :, i, j, None, None] * basis[None, None]
    return moves * jnp.array([height, width], jnp.float32).reshape(1, 2, 1, 1)


def _spline(size: int) -> jax.Array:
    """Returns [size, P], the weights of the control points of a uniform cubic B-spline.

    They are never negative and sum to 1. The first and the last point lie outside the image.
    """
    places = jnp.linspace(1.0, _POINTS - 2.0, size, dtype=jnp.float32)
    apart = jnp.abs(places[:, None] - jnp.arange(_POINTS, dtype=jnp.float32)[None, :])
    near = (4 - 6 * apart**2 + 3 * apart**3) / 6
    far = jnp.maximum(2 - apart, 0) ** 3 / 6
    return jnp.where(apart < 1, near, far)


def vary_sharpness(images: jax.Array, rng: jax.Array, settings: Augment) -> jax.Array:
    """Blurs each image and lowers its resolution, both by random amounts.

    Args:
        images: [B, H, W, 1] float32 in [0, 1].
        rng: a random key, which must not be used again.
        settings: ranges of the changes.

    Returns:
        [B, H, W, 1] float32 in [0, 1].
    """
    blurred, lost = _uniform(rng, images.shape[0], 2).T
    scales = 1 - settings.low_resolution * lost
    return jnp.clip(sharpness.soften(images, settings.blur_pixels * blurred, scales), 0, 1)


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


def vary_gamma(images: jax.Array, rng: jax.Array, settings: Augment) -> jax.Array:
    """Raises the grey values of each image to a random power.

    Args:
        images: [B, H, W, 1] float32 in [0, 1].
        rng: a random key, which must not be used again.
        settings: ranges of the changes.

    Returns:
        [B, H, W, 1] float32 in [0, 1].
    """
    amounts = 2 * _uniform(rng, images.shape[0], 1)[:, :, None, None] - 1
    return images ** jnp.exp(math.log1p(settings.gamma) * amounts)


def vary_noise(images: jax.Array, rng: jax.Array, settings: Augment) -> jax.Array:
    """Adds Gaussian noise of a random strength to each image, and clips to [0, 1].

    Args:
        images: [B, H, W, 1] float32 in [0, 1].
        rng: a random key, which must not be used again.
        settings: ranges of the changes.

    Returns:
        [B, H, W, 1] float32 in [0, 1].
    """
    rng_strength, rng_noise = jax.random.split(rng)
    strengths = settings.noise_std * _uniform(rng_strength, images.shape[0], 1)[:, :, None, None]
    return add_noise(images, rng_noise, strengths)


def add_noise(images: jax.Array, rng: jax.Array, std: jax.Array | float) -> jax.Array:
    """Adds Gaussian noise, independent for each pixel or voxel, and clips to [0, 1].

    Args:
        images: [B, ..., 1] float32 in [0, 1].
        rng: a random key, which must not be used again.
        std: standard deviation, where images are in [0, 1].
    """
    noise = jax.vmap(lambda rng: jax.random.normal(rng, images.shape[1:], jnp.float32))(
        keys(rng, len(images))
    )
    return jnp.clip(images + std * noise, 0, 1)


def keys(rng: jax.Array, batch: int) -> jax.Array:
    """Returns [batch] keys; key i depends on `rng` and i alone."""
    return jax.vmap(lambda index: jax.random.fold_in(rng, index))(jnp.arange(batch))


def _uniform(rng: jax.Array, batch: int, count: int) -> jax.Array:
    """Returns [B, count] in [0, 1); row i depends on `rng` and i alone."""
    return jax.vmap(lambda rng: jax.random.uniform(rng, (count,), jnp.float32))(keys(rng, batch))


def _warp_one(
    image: jax.Array, mask: jax.Array, matrix: jax.Array, moves: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Warps [H, W] float32 and [H, W] uint8 by a [2, 3] matrix: five gathers at flat indices.

    `moves` [2, H, W] are added to the coordinates that are read.
    """
    height, width = image.shape
    rows = jnp.arange(height, dtype=jnp.float32)[:, None]
    columns = jnp.arange(width, dtype=jnp.float32)[None, :]
    row = matrix[0, 0] * rows + matrix[0, 1] * columns + matrix[0, 2]
    column = matrix[1, 0] * rows + matrix[1, 1] * columns + matrix[1, 2]
    if moves is not None:
        row, column = row + moves[0], column + moves[1]
    # Clipping the coordinates repeats the edge.
    row, column = jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)

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
