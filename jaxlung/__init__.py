"""Lung and infection segmentation on chest X-ray and CT."""

import os
import typing

if typing.TYPE_CHECKING:
    from jaxlung.predict import mean, network


def load(path: os.PathLike[str] | str, *, mirror: bool = False) -> "network.Network | mean.Mean":
    """Opens a trained network for NumPy arrays; see `jaxlung.predict.network`.

        model = jaxlung.load("runs/covidqu")
        mask = model.predict(image)  # [H, W] uint8 to [H, W] uint8, an index into the levels

    Args:
        path: folder of a trained run, exported file, or the name of a network that comes along
            (`jaxlung models` lists them). The networks of a study, such as the folds of a
            cross-validation, and of a file with several are averaged.
        mirror: True averages the predictions for an image and its mirror image.

    Raises:
        ValueError: there is no such network, or it can't be used.
    """
    from jaxlung.config import shipped, study_folder  # Here: `import jaxlung` must stay light.
    from jaxlung.host import files
    from jaxlung.predict import mean

    place = files.to_absolute(shipped.resolve(os.fspath(path)))
    return mean.load(study_folder.members(place), mirror=mirror)
