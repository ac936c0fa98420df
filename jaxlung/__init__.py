"""Lung and infection segmentation on chest X-ray and CT."""

import os
import typing

if typing.TYPE_CHECKING:
    from jaxlung.predict import network


def load(path: os.PathLike[str] | str, *, mirror: bool = False) -> "network.Network":
    """Opens a trained network for NumPy arrays; see `jaxlung.predict.network`.

        model = jaxlung.load("runs/covidqu")
        mask = model.predict(image)  # [H, W] uint8 to [H, W] uint8, an index into the levels

    Args:
        path: folder of a trained run, exported file with one network, or the name of a network
            that comes along (`jaxlung models` lists them).
        mirror: True averages the predictions for an image and its mirror image.

    Raises:
        ValueError: there is no such network, or it can't be used.
    """
    from jaxlung.config import shipped
    from jaxlung.predict import network  # Here: `import jaxlung` must stay light.

    return network.load(shipped.resolve(os.fspath(path)), mirror=mirror)
