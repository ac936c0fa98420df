"""The interface that every network has, and the checks of its attributes and inputs."""

from collections.abc import Sequence

import flax.linen as nn
import jax


class Network(nn.Module):
    """A network that maps images or volumes to logits; the base class of all of `MODELS`."""

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, ...]:
        """Maps images to logits.

        Args:
            images: [B, H, W, 1] or [B, D, H, W, 1] float32 in [0, 1].
            train: compute as in training: batch statistics, dropout, noise.

        Returns:
            Float32 logits; a tuple of them, the final ones first, if other levels are trained too.
        """
        raise NotImplementedError

    @nn.nowrap
    def input_multiples(self) -> tuple[int | None, ...]:
        """Returns the number that each size of the input must be a multiple of.

        One number for each of H, W or D, H, W; None where a trained network takes no other size
        than the one that it was trained on.
        """
        raise NotImplementedError

    @nn.nowrap
    def for_platform(self, platform: str) -> "Network":
        """Returns this network in the form that is fastest on a platform.

        The form changes neither results nor parameters.

        Args:
            platform: "cpu", "gpu" or "tpu".
        """
        del platform
        return self


def require(field: str, value: object, good: bool, want: str) -> None:
    """Raises ValueError unless `good`; the message says that `field` is `value` and not `want`."""
    if not good:
        raise ValueError(f"model.{field}: got {value!r}, want {want}.")


def require_count(field: str, value: int) -> None:
    """Raises ValueError unless `value` is above 0."""
    require(field, value, value > 0, "a count above 0")


def require_counts(field: str, values: Sequence[int], at_least: int) -> None:
    """Raises ValueError unless `values` are at least `at_least` (1 or 2) whole numbers above 0."""
    good = len(values) >= at_least and all(isinstance(v, int) and v > 0 for v in values)
    number = {1: "one", 2: "two"}[at_least]
    require(field, tuple(values), good, f"{number} or more counts above 0")


def require_multiples(images: jax.Array, multiples: Sequence[int], remedy: str) -> None:
    """Raises ValueError unless the sizes of `images` are multiples of `multiples`.

    Args:
        images: [B, H, W, C] or [B, D, H, W, C].
        multiples: one number for each of H, W or D, H, W.
        remedy: advice at the end of the message.
    """
    sizes = images.shape[1:-1]
    if any(size % multiple for size, multiple in zip(sizes, multiples, strict=True)):
        what = "images" if len(sizes) == 2 else "volumes"
        got, want = (" x ".join(map(str, each)) for each in (sizes, multiples))
        raise ValueError(f"model: got {what} of {got}, want multiples of {want}; {remedy}.")


def require_dtype(dtype: str) -> None:
    """Raises ValueError unless `dtype` is a type that networks compute in."""
    require("dtype", dtype, dtype in ("float32", "bfloat16"), "one of float32, bfloat16")
