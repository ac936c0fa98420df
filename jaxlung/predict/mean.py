"""Networks of one task as one for a user's images: NumPy arrays in, NumPy arrays out."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from etils import epath

from jaxlung.predict import ct_ensemble, network
from jaxlung.predict import ensemble as ensemble_lib


@dataclasses.dataclass(frozen=True, eq=False)
class Mean:
    """The mean of several networks, used as one `network.Network`; made by `load`.

    Attributes:
        ensemble: the networks.
    """

    ensemble: ensemble_lib.Ensemble

    def predict(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> np.ndarray:
        """Returns the mask of the mean output; see `network.Network.predict`."""
        return self.find(image, lungs, spacing_mm, keep_probs=False).preds

    def probs(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> np.ndarray:
        """Returns the mean output, float32 in [0, 1]; see `network.Network.predict`."""
        probs = self.find(image, lungs, spacing_mm, keep_probs=True).probs
        assert probs is not None
        return probs

    def find(
        self,
        image: np.ndarray,
        lungs: np.ndarray | None = None,
        spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        keep_probs: bool = True,
    ) -> ensemble_lib.Found:
        """Returns mask, mean output and disagreement; see `network.Network.predict`.

        Args:
            image: the image.
            lungs: mask of the lungs, for networks that need it.
            spacing_mm: distances between a CT's voxels.
            keep_probs: False to leave a CT's mean output on the device.
        """
        judge = self.ensemble.judge
        if judge.is_volumetric:
            record = judge.to_record(image, lungs, spacing_mm)
            return ct_ensemble.find(self.ensemble, record, None, keep_probs=keep_probs)
        network.require_image(image, judge.is_volumetric)
        members = self.ensemble.members
        queued = [member.queue([member.fit(image, lungs)]) for member in members]
        return self.ensemble.combine(
            member.unfit(network.fetch(outputs, 1)[0], image.shape)
            for member, outputs in zip(members, queued, strict=True)
        )


def load(paths: Iterable[epath.Path], *, mirror: bool = False) -> network.Network | Mean:
    """Loads a network, or the networks of one task as their mean.

    Args:
        paths: folders of trained runs, or exported files.
        mirror: see `network.load`.

    Raises:
        ValueError: see `network.load`; or a network is named twice.
    """
    networks = network.load_all(paths, mirror=mirror)
    if len(networks) == 1:
        return networks[0]
    (only,) = ensemble_lib.gather(networks).ensembles.values()
    return Mean(only)
