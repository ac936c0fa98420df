"""Parses the part of `--config=file.py:ARG` after the colon, which chooses a config's variants."""

import dataclasses
import types


class UnknownVariantError(ValueError):
    """A config or a study has no variant of a name."""


@dataclasses.dataclass(frozen=True)
class Repeats:
    """The runs that an argument asks for: "target=lung,folds=5,seeds=3" for 15 of them.

    Attributes:
        arg: the variants that all runs share.
        folds: number of folds of a cross-validation; 0 for none.
        seeds: number of seeds; 0 for the config's own.
    """

    arg: str
    folds: int
    seeds: int

    @property
    def number(self) -> int:
        """Number of runs."""
        return max(self.folds, 1) * max(self.seeds, 1)

    @property
    def kinds(self) -> list[str]:
        """Those of "folds" and "seeds" that were asked for; none for a single run.

        One seed is a study, too, to which more can be added later.
        """
        kinds = {"folds": self.folds, "seeds": self.seeds}
        return [kind for kind, number in kinds.items() if number]


def split_repeats(arg: str) -> Repeats:
    """Takes "seeds=N", and "folds=K" without a "fold", out of a config's argument.

    Every config has seeds, so the config's own file doesn't see them. It sees which fold a run is.

    Args:
        arg: comma-separated names and name=value pairs; "" for none.

    Raises:
        ValueError: a number is no number, or not above 0.
    """
    parts = {part.partition("=")[0]: part for part in arg.split(",") if part}
    folds = seeds = 0
    if "seeds" in parts:
        seeds = _to_number("seeds", parts.pop("seeds"))
        if seeds < 1:
            raise ValueError(f"config variant seeds: got {seeds}, want 1 or more.")
    if "folds" in parts and "fold" not in parts:
        folds = _to_number("folds", parts["folds"])
        if folds > 1:
            del parts["folds"]
        folds = folds if folds > 1 else 0  # A cross-validation of one fold is the config's error.
    return Repeats(",".join(parts.values()), folds, seeds)


def _to_number(name: str, part: str) -> int:
    number = _to_type(name, part.partition("=")[2], int, bare="=" not in part)
    assert isinstance(number, int)
    return number


def parse_arg(arg: str, **defaults: bool | int | float | str) -> types.SimpleNamespace:
    """Parses an argument such as "phantom,loss=bce" or "fold=0,folds=5".

    Args:
        arg: comma-separated names and name=value pairs; "" for none. A bare name sets True.
        **defaults: the variants that the config has, with default values of the right types.

    Returns:
        The defaults, overridden by `arg`.

    Raises:
        UnknownVariantError: `arg` names an unknown variant; lists the known ones.
        ValueError: a value has another type, or there is no such fold.
    """
    values = dict(defaults)
    for part in filter(None, arg.split(",")):
        name, _, text = part.partition("=")
        if name not in defaults:
            choices = ", ".join(defaults)
            raise UnknownVariantError(f"config variant: got {name!r}, want one of {choices}.")
        values[name] = _to_type(name, text, type(defaults[name]), bare="=" not in part)
    if "folds" in values:
        require_fold(int(values["fold"]), int(values["folds"]))
    return types.SimpleNamespace(**values)


def require_fold(fold: int, folds: int) -> None:
    """Raises ValueError unless `fold` is one of `folds`; 0 of 0 means no cross-validation."""
    if folds < 0 or folds == 1:
        raise ValueError(f"data.folds: got {folds}, want 2 or more, or 0 for no cross-validation.")
    if not 0 <= fold < max(folds, 1):
        raise ValueError(
            f"data.fold: got {fold} of {folds} folds, want a fold from 0 to one less than folds "
            "(:fold=0,folds=5)."
        )


def refuse_folds(arg: str, dataset: str) -> None:
    """Raises ValueError if `arg` asks for folds of a dataset that is published with its splits."""
    if any(part.partition("=")[0] in ("fold", "folds") for part in arg.split(",")):
        raise ValueError(
            f"config variant: got {arg!r}, but {dataset} is published with its splits, so it has "
            "no folds."
        )


def _to_type(name: str, text: str, kind: type, *, bare: bool) -> bool | int | float | str:
    if kind is bool:
        flags = {"true": True, "false": False}
        if bare:
            return True
        if text.lower() not in flags:
            raise ValueError(f"config variant {name}: got {text!r}, want true or false.")
        return flags[text.lower()]
    if bare:
        raise ValueError(f"config variant {name}: got no value, want {name}=VALUE.")
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"config variant {name}: got {text!r}, want {kind.__name__}.") from None
