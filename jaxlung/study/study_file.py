"""Loads study files and their configs. Nothing here needs JAX, so a typo is reported at once."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections as mlc
from etils import epath

from jaxlung.config import config_arg, config_file
from jaxlung.study import study as study_lib
from jaxlung.tasks import words


def load(spec: str) -> study_lib.Study:
    """Runs `get_study` of a resolved `spec`.

    Raises:
        ValueError: the file defines no study; names it.
    """
    path = spec.partition(":")[0]
    try:
        study = config_file.load(spec, "get_study")
    except ValueError as error:
        is_named = str(error).startswith(path)
        raise ValueError(str(error) if is_named else f"{path}: {error}") from error
    if not isinstance(study, study_lib.Study):
        raise ValueError(f"{path}: get_study returns a {type(study).__name__}, want a study.Study.")
    return study


def from_config(spec: str) -> study_lib.Study:
    """Returns the study of one config's folds, seeds, or all combinations of them.

    Its runs are one group, and its columns are the main scores of the config's task.

    Args:
        spec: as for `--config`: "folder:folds=5", "cxr_lungs:phantom,seeds=4".

    Raises:
        ValueError: there is no such config, or it has no such variant.
    """
    name, _, arg = spec.partition(":")
    repeats = config_arg.split_repeats(arg)
    first = f"folds={repeats.folds},fold=0" if repeats.folds else ""
    config = config_file.load(config_file.resolve(_join(name, repeats.arg, first)))
    columns = words.find(config.task_name).headlines
    paper = {key: x for key, x in config.paper.test.items() if key in columns and not _is_range(x)}
    return study_lib.Study(
        title=f"{_describe(repeats)}: {_join(pathlib.Path(name).stem, repeats.arg)}",
        runs=_list_runs(name, repeats),
        columns=columns,
        paper=(study_lib.PaperRow("test split", paper),) if paper else (),
        notes=tuple(filter(None, (_explain(repeats), config.paper.note if paper else ""))),
    )


def _list_runs(name: str, repeats: config_arg.Repeats) -> tuple[study_lib.Run, ...]:
    if not repeats.folds:
        config = _join(name, repeats.arg)
        return tuple(
            study_lib.Run(f"seed_{seed}", f"seed {seed}", config, {"seed": seed}, group="all seeds")
            for seed in range(repeats.seeds)
        )
    folds = [
        study_lib.Run(
            f"fold_{fold}",
            f"fold {fold}",
            _join(name, repeats.arg, f"fold={fold},folds={repeats.folds}"),
            group="all folds",
        )
        for fold in range(repeats.folds)
    ]
    return study_lib.repeat(folds, max(repeats.seeds, 1))


def _describe(repeats: config_arg.Repeats) -> str:
    seeds = f"{repeats.seeds} seed{'' if repeats.seeds == 1 else 's'}"
    if not repeats.folds:
        return seeds
    return f"Cross-validation over {repeats.folds} folds" + (f", {seeds}" if repeats.seeds else "")


def _explain(repeats: config_arg.Repeats) -> str:
    if repeats.folds:
        return (
            "Folds are split by patient. The checkpoint of a fold is chosen on patients that it "
            "doesn't test."
        )
    return (
        "The seed sets the first weights, the order of the images and their augmentation, and the "
        "split, unless the data were published with one."
    )


def _join(name: str, *args: str) -> str:
    return ":".join(filter(None, (name, ",".join(filter(None, args)))))


def _is_range(score: float | Sequence[float]) -> bool:
    return isinstance(score, Sequence)


def make_configs(
    study: study_lib.Study, workdir: epath.Path, overrides: Sequence[str] = ()
) -> dict[str, mlc.ConfigDict]:
    """Returns name of a run -> its config.

    Args:
        study: The study.
        workdir: The study's folder, absolute.
        overrides: "--config.FIELD=VALUE" as on the command line, for all runs.

    Raises:
        ValueError: the study or the overrides can't be applied to a run's config; names the run.
    """
    _require_unset(study, overrides)
    configs = {}
    for run in study.runs:
        try:
            config = config_file.load(config_file.resolve(run.config))
            for field, value in run.overrides.items():
                config_file.require_field(config, field)
                config.update_from_flattened_dict({field: _fill_in(value, workdir)})
            config_file.set_overrides(config, overrides)
        except (ValueError, TypeError) as error:
            raise ValueError(f"study, run {run.name}: {error}") from error
        configs[run.name] = config
    _require_different(study, configs)
    _require_comparable(study, configs)
    return configs


def _require_unset(study: study_lib.Study, overrides: Sequence[str]) -> None:
    """Raises ValueError if the command line sets a field that the study's sweep varies."""
    for override in overrides:
        field = override.lstrip("-").partition("=")[0].removeprefix("config.")
        if study.sweep and field in study.sweep.fields:
            raise ValueError(f"--config.{field}: the study varies this field; do not set it.")


def _require_comparable(study: study_lib.Study, configs: Mapping[str, mlc.ConfigDict]) -> None:
    """Raises ValueError if the validation scores of a sweep's runs can't be compared."""
    if not study.sweep:
        return
    first = configs[study.runs[0].name]
    for name, config in configs.items():
        for field in ("epochs", "selection"):
            if config[field] != first[field]:
                raise ValueError(
                    f"study, run {name}: got {field}={config[field]!r} beside {first[field]!r}, "
                    f"want the same {field} in all runs of a sweep."
                )
        if config.selection == "best" and config.task != first.task:
            raise ValueError(
                f"study, run {name}: got selection='best', the lowest validation loss, and a task "
                "of its own, whose loss can't be compared; want selection='best_score'."
            )
    if study.sweep.reduction and study.sweep.first_epochs >= first.epochs:
        raise ValueError(
            f"sweep.first_epochs: got {study.sweep.first_epochs}, want fewer than the "
            f"{first.epochs} epochs of a run, or reduction=0."
        )


def _require_different(study: study_lib.Study, configs: Mapping[str, mlc.ConfigDict]) -> None:
    """Raises ValueError if two runs of a group are the same, as their mean would be meaningless."""
    grouped = [run for run in study.runs if run.group]
    for one, other in itertools.combinations(grouped, 2):
        if one.group == other.group and configs[one.name] == configs[other.name]:
            raise ValueError(
                f"study, run {other.name}: got the same config as run {one.name}, want another "
                "seed or fold; do not set seed or fold for all runs."
            )


def _fill_in(value: Any, workdir: epath.Path) -> Any:
    return value.replace("{runs}", str(workdir / "runs")) if isinstance(value, str) else value
