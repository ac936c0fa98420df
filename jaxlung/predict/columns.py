"""Chooses the columns of `predictions.csv`: those that a command's networks can fill."""

import contextlib
import pathlib
from collections.abc import Sequence

from jaxlung.predict import dicom_picture, ensemble, formats, inputs, measure, quiet
from jaxlung.volume import dicom_file

# All columns that there are, in their order. A word of a name, such as "mm2", may limit the column
# to some commands, see `_met`.
COLUMNS = (
    "name",
    "path",
    "kind",
    "diagnosis",
    "covid19_probability",
    *measure.COLUMNS,
    *(f"{role}_disagreement" for role in ensemble.ROLES),  # 0 to 0.5
    "warning",
    "seconds",
)


def choose(team: ensemble.Team, items: Sequence[inputs.Item]) -> tuple[str, ...]:
    """Returns the columns that apply to a command, in the order of `COLUMNS`.

    A column applies if the networks can fill it for one of the items or more. Sizes in mm of
    X-rays apply if the header of one item or more has the size of a pixel.

    Args:
        team: the networks.
        items: the items to predict on.
    """
    met = _met(team) | {"mm": _has_mm(team, items), "mm2": _has_mm(team, items)}
    averaged = [role for role, each in team.ensembles.items() if len(each.members) > 1]
    return tuple(
        column
        for column in COLUMNS
        if all(met.get(word, True) for word in column.split("_"))
        and (not column.endswith("_disagreement") or column.split("_")[0] in averaged)
    )


def _met(team: ensemble.Team) -> dict[str, bool]:
    """Returns, by words in the names of columns, True if a command can fill columns with them."""
    lungs = bool(team.lungs_from)
    infection = not {"infection", "levels"}.isdisjoint(team.ensembles)
    # A network of levels gives no probabilities of its lungs or infection.
    certainty = ("infection" if infection else "lung") in team.ensembles
    return {
        **dict.fromkeys(("lung", "right", "left", "share"), lungs),
        **dict.fromkeys(("infection", "infected"), infection),
        **dict.fromkeys(("diagnosis", "covid19"), "diagnosis" in team.ensembles),
        **dict.fromkeys(("confidence", "entropy"), certainty),
        **dict.fromkeys(("thoracic", "warning"), lungs and not team.is_volumetric),
        "px": not team.is_volumetric,
        "ml": team.is_volumetric,
    }


def _has_mm(team: ensemble.Team, items: Sequence[inputs.Item]) -> bool:
    if team.is_volumetric or not team.has_masks:
        return False
    return any(_has_pixel_mm(item.path) for item in items if item.kind == "picture")


def _has_pixel_mm(path: pathlib.Path) -> bool:
    """Returns True for a DICOM file whose header has the size of a pixel."""
    with contextlib.suppress(*dicom_file.DAMAGE), quiet.region():  # Predicting tells of damage.
        if formats.sniff(path) == "DICOM":
            return dicom_picture.pixel_mm(dicom_file.read(path, pixels=False)) is not None
    return False
