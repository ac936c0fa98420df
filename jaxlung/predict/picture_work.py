"""Takes X-rays from file to outputs: read (in threads), predict (in batches), save (in threads)."""

import concurrent.futures
import contextlib
import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from jaxlung.host import console
from jaxlung.image import png_file
from jaxlung.predict import (
    dicom_seg,
    ensemble,
    findings,
    formats,
    inputs,
    network,
    outputs,
    overlay,
    pictures,
    plausible,
    settings,
)
from jaxlung.tasks import three_level

MASK = "_mask.png"
SUFFIX = ".png"  # of files with probabilities
# Our choice. Measuring takes some 20 bytes per pixel, so larger pictures are saved one at a time.
_LARGE_PIXELS = 20_000_000
_one_large = threading.Lock()
READ_AHEAD = 8  # pictures read and waiting, beside those that threads are reading

Fitted = tuple[np.ndarray, np.ndarray]  # image and mask, see `Network.fit`
Raw = dict[network.Network, np.ndarray]  # raw outputs, at each network's own size


@dataclasses.dataclass(frozen=True)
class Ready:
    """A picture that was read, resized for each network that needs no lungs."""

    picture: pictures.Picture
    fitted: Mapping[network.Network, Fitted]


def batch_size(team: ensemble.Team) -> int:
    """Returns the number of pictures predicted at a time: the largest batch of any network."""
    return max(member.system.settings.eval_batch_size for member in team.members)


def read(item: inputs.Item, team: ensemble.Team, options: settings.Options) -> Ready:
    """Reads a picture and resizes it for the networks.

    Raises:
        ValueError: the file is no picture, damaged or too large.
    """
    if item.kind == "unknown":
        raise formats.refuse(item.path)
    if item.kind != "picture":
        raise ValueError(f"{item.path}: the network needs an X-ray, got a volume.")
    picture = pictures.read(item.path, options.max_pixels)
    alone = (member for member in team.members if not member.needs_lungs)
    return Ready(picture, {member: member.fit(picture.image) for member in alone})


def predict(
    team: ensemble.Team,
    ready: Sequence[Ready],
    options: settings.Options,
    pool: concurrent.futures.Executor,
) -> list[Raw]:
    """Returns all networks' raw outputs for some pictures; networks that need lungs come last."""
    del options
    raws: list[Raw] = [{} for _ in ready]
    dependent = [member for member in team.members if member.needs_lungs]
    for member in team.members:
        if member not in dependent:
            _add(raws, member, [each.fitted[member] for each in ready])
    if dependent:
        finder = team.ensembles[team.lungs_from]
        found = pool.map(lambda each, raw: _find(finder, raw, each.picture), ready, raws)
        lungs = [each.preds > 0 for each in found]
    for member in dependent:
        images = [each.picture.image for each in ready]
        _add(raws, member, list(pool.map(member.fit, images, lungs)))
    return raws


def _add(raws: list[Raw], member: network.Network, fitted: list[Fitted]) -> None:
    for raw, output in zip(raws, member.predict_fitted(fitted), strict=True):
        raw[member] = output


def _find(finder: ensemble.Ensemble, raw: Raw, picture: pictures.Picture) -> ensemble.Found:
    shape = picture.image.shape
    return finder.combine(member.unfit(raw[member], shape) for member in finder.members)


def save(
    item: inputs.Item, ready: Ready, raw: Raw, team: ensemble.Team, options: settings.Options
) -> dict[str, Any]:
    """Writes the outputs, the mask last, and returns the row of `columns.COLUMNS`."""
    is_large = ready.picture.image.size > _LARGE_PIXELS
    with _one_large if is_large else contextlib.nullcontext():
        return _save(item, ready, raw, team, options)


def _save(
    item: inputs.Item, ready: Ready, raw: Raw, team: ensemble.Team, options: settings.Options
) -> dict[str, Any]:
    picture = ready.picture
    found = {role: _find(each, raw, picture) for role, each in team.ensembles.items()}
    result = findings.combine(team, found)
    # Measured before anything is written, so that an error leaves no files.
    numbers = result.numbers(picture.pixel_mm, mirrored=picture.mirrored)
    warning = "; ".join(_doubts(result))
    if warning:
        logging.warning("%s: %s", console.on_one_line(item.path), warning)
    # Written first, because headers may lack what it needs: an error then leaves no other files.
    if options.dicom_seg and picture.kind == "DICOM":
        path = outputs.place(options.output, item.name, settings.DICOM_SEG)
        dicom_seg.write_picture(path, result.layers, picture, item.path)
    if options.probs:
        maps = {role: found[role] for role in team.map_roles}
        for ending, probs in settings.probs_by_ending(maps).items():
            path = outputs.place(options.output, item.name, f"{ending}{SUFFIX}")
            png_file.write(path, pictures.to_stored(outputs.to_uint16(probs), picture))
    if options.overlay and result.layers:
        path = outputs.place(options.output, item.name, settings.OVERLAY)
        png_file.write(path, overlay.draw(picture.image, result.layers))
    levels = result.levels(three_level.GREYS, 255)
    if levels is not None:
        path = outputs.place(options.output, item.name, MASK)
        png_file.write(path, pictures.to_stored(levels, picture))
    return numbers | {"kind": picture.kind, "warning": warning}


def _doubts(result: findings.Findings) -> list[str]:
    """Returns what is unusual about the lungs; [] if no network looked for them."""
    return [] if result.lungs is None else plausible.doubts(result.lungs, result.lung_probs)
