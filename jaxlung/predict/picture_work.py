"""Takes X-rays from file to outputs: read (in threads), predict (in batches), save (in threads).

A picture is resized once for all networks that take the same size, and a batch is sent to all
networks before the first output is waited for: those on different devices work side by side.
"""

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
Form = tuple[Any, ...]  # see `Network.input_form`
Raw = dict[network.Network, np.ndarray]  # raw outputs, at each network's own size


@dataclasses.dataclass(frozen=True)
class Ready:
    """A picture that was read, resized for all networks that need no lungs.

    Attributes:
        picture: the picture.
        fitted: what networks of each `input_form` see.
    """

    picture: pictures.Picture
    fitted: Mapping[Form, Fitted]


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
    forms = {member.input_form: member for member in team.members if not member.needs_lungs}
    return Ready(picture, {form: each.fit(picture.image) for form, each in forms.items()})


def predict(
    team: ensemble.Team,
    ready: Sequence[Ready],
    options: settings.Options,
    pool: concurrent.futures.Executor,
) -> list[Raw]:
    """Returns all networks' raw outputs for some pictures; networks that need lungs come last."""
    del options
    dependent = [member for member in team.members if member.needs_lungs]
    alone = [member for member in team.members if not member.needs_lungs]
    raws = _predict(alone, [each.fitted for each in ready])
    if not dependent:
        return raws
    finder = team.ensembles[team.lungs_from]
    found = pool.map(lambda each, raw: _find(finder, raw, each.picture), ready, raws)
    lungs = [each.preds > 0 for each in found]
    forms = {member.input_form: member for member in dependent}
    fitted = pool.map(
        lambda each, mask: {form: m.fit(each.picture.image, mask) for form, m in forms.items()},
        *(ready, lungs),
    )
    later = _predict(dependent, list(fitted))
    return [raw | more for raw, more in zip(raws, later, strict=True)]


def _predict(
    members: Sequence[network.Network], fitted: Sequence[Mapping[Form, Fitted]]
) -> list[Raw]:
    """Returns the raw outputs of some networks for each picture."""
    queued = [member.queue([each[member.input_form] for each in fitted]) for member in members]
    outputs = [network.fetch(each, len(fitted)) for each in queued]
    return [dict(zip(members, each, strict=True)) for each in zip(*outputs, strict=True)]


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
