"""Random changes to training patches of volumes, inside jit.

In the plane of the slices they are those of `augment`, equal for all slices of a patch. There is no
rotation out of the plane: slices are so much further apart than pixels that it would mostly blur
(our choice).
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlung.data.transforms import augment as augment_2d


@dataclasses.dataclass(frozen=True)
class Augment3D:
    """The ranges of random changes to training patches; all but noise are drawn uniformly.

    Attributes:
        flip_probability: probabilities of a mirror image along D, H and W, each in [0, 1].
        rotation_degrees: largest angle in the plane, in either direction, [0, 360].
        zoom_range: smallest and largest scale in the plane; above 1 enlarges.
        shift_fraction: largest shift in either direction, as a share of height and width, [0, 1].
        brightness: largest offset in either direction, where images are in [0, 1]; [0, 1].
        contrast: largest relative change of contrast about the patch's mean, [0, 1].
        noise_std: standard deviation of Gaussian noise, where images are in [0, 1]; [0, 1].
    """

    flip_probability: tuple[float, float, float]
    rotation_degrees: float
    zoom_range: tuple[float, float]
    shift_fraction: float
    brightness: float
    contrast: float
    noise_std: float

    def __post_init__(self) -> None:
        """Raises a ValueError for a field out of range, with its name, value and range."""
        flips = self.flip_probability
        if len(flips) != 3 or not all(0 <= p <= 1 for p in flips):
            raise ValueError(
                "augment.flip_probability: want one number from 0 to 1 for each of D, H and W, "
                f"got {flips}."
            )
        if not 0 <= self.noise_std <= 1:
            raise ValueError(f"augment.noise_std: want 0 to 1, got {self.noise_std}.")
        _ = self.in_plane  # This checks the other fields.

    @property
    def in_plane(self) -> augment_2d.Augment:
        """The changes in the plane of slices, without flips, which are done apart to be exact."""
        return dataclasses.replace(
            augment_2d.OFF,
            rotation_degrees=self.rotation_degrees,
            shift_fraction=self.shift_fraction,
            zoom_range=self.zoom_range,
            brightness=self.brightness,
            contrast=self.contrast,
        )

    @property
    def is_identity(self) -> bool:
        """True if patches stay as they are."""
        return not (any(self.flip_probability) or self.noise_std) and self.in_plane.is_identity


def augment(
    images: jax.Array, masks: jax.Array, rng: jax.Array, settings: Augment3D
) -> tuple[jax.Array, jax.Array]:
    """Changes every patch, and its mask along with it.

    Patch i of a batch depends on `rng` and i alone, whatever the size of the batch.

    Args:
        images: [B, D, H, W, 1] float32 in [0, 1].
        masks: [B, D, H, W] uint8 bits.
        rng: a random key, which must not be used again.
        settings: ranges of the changes; if all are zero, the arguments are returned.

    Returns:
        Images (linear interpolation) and masks (nearest voxel) of the same shapes and types.
        Voxels from outside repeat the edge of their slice.
    """
    if settings.is_identity:
        return images, masks
    rng_flip, rng_warp, rng_exposure, rng_noise = jax.random.split(rng, 4)
    if any(settings.flip_probability):
        images, masks = flip(images, masks, rng_flip, settings.flip_probability)
    if settings.in_plane.moves_pixels:
        batch, _, height, width = masks.shape
        shape = (batch, height, width)
        matrices = augment_2d.random_matrices(rng_warp, shape, settings.in_plane)
        images, masks = warp(images, masks, matrices)
    if settings.in_plane.changes_exposure:
        # Slices are put below each other, so that a patch has one gain and one offset.
        tall = images.reshape(images.shape[0], -1, *images.shape[3:])
        tall = augment_2d.vary_exposure(tall, rng_exposure, settings.in_plane)
        images = tall.reshape(images.shape)
    if settings.noise_std:
        images = augment_2d.add_noise(images, rng_noise, settings.noise_std)
    return images, masks


def flip(
    images: jax.Array,
    masks: jax.Array,
    rng: jax.Array,
    probability: tuple[float, float, float],
) -> tuple[jax.Array, jax.Array]:
    """Mirrors patches along D, H and W, drawn independently for each patch and axis; exact.

    Args:
        images: [B, D, H, W, 1].
        masks: [B, D, H, W].
        rng: a random key, which must not be used again.
        probability: probabilities along D, H and W, each in [0, 1].
    """
    draws = jax.vmap(lambda rng: jax.random.uniform(rng, (3,), jnp.float32))(
        augment_2d.keys(rng, len(images))
    )
    for axis in range(3):
        chosen = draws[:, axis].reshape(-1, 1, 1, 1) < probability[axis]
        images = jnp.where(chosen[..., None], jnp.flip(images, axis + 1), images)
        masks = jnp.where(chosen, jnp.flip(masks, axis + 1), masks)
    return images, masks


def warp(images: jax.Array, masks: jax.Array, matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moves every slice of a patch in the same way, see `augment.warp`.

    Args:
        images: [B, D, H, W, 1] float32.
        masks: [B, D, H, W] uint8.
        matrices: [B, 2, 3] float32 from `augment.random_matrices`.

    Returns:
        Images and masks of the same shapes and types.
    """
    # Where pixels come from is computed once for all slices.
    slices = jax.vmap(augment_2d.warp, in_axes=(1, 1, None), out_axes=1)
    return slices(images, masks, matrices)
