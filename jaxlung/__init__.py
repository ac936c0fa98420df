"""Lung and infection segmentation on chest X-ray and CT."""

import os
import typing

if typing.TYPE_CHECKING:
    from jaxlung.predict import network


def load(path: os.PathLike[str] | str, *, mirror: bool = False) -> "network.Network":
    """Opens a trained run as a network for NumPy arrays; see `jaxlung.predict.network`.

        model = jaxlung.load("runs/covidqu")
        mask = model.predict(image)  # [H, W] uint8 to [H, W] uint8, an index into the levels

    Args:
        path: folder of a trained run.
        mirror: True averages the predictions for an image and its mirror image.

    Raises:
        ValueError: the folder holds no trained run.
    """
    from jaxlung.predict import network  # Here: `import jaxlung` must stay light.

    return network.load(path, mirror=mirror)
