"""Lung and infection segmentation on chest X-ray and CT."""

import os
import typing

if typing.TYPE_CHECKING:
    from jaxlung.predict import network


def load(path: os.PathLike[str] | str, *, mirror: bool = False) -> "network.Network":
    """A trained run as a network for NumPy arrays; see `jaxlung.predict.network`.

        model = jaxlung.load("runs/covidqu")
        mask = model.predict(image)  # [H, W] uint8 to [H, W] uint8, an index into the levels

    Args:
        path: folder of a trained run.
        mirror: also look at mirror images, and take the mean.

    Raises:
        ValueError: no trained run there.
    """
    from jaxlung.predict import network  # Here: `import jaxlung` must stay light.

    return network.load(path, mirror=mirror)
