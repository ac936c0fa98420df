"""What a model card must warn of, as far as it can be told from the run's files."""

from collections.abc import Mapping
from typing import Any

from jaxlung.config import run_files
from jaxlung.report import glossary, notes, tables, terms
from jaxlung.report.model_card import markdown
from jaxlung.report.model_card import run as run_lib

_FEW = 100  # patients, below which a card warns (our choice)
_LOWER_IS_BETTER = ("mae", "hd95", "volume_error_ml")  # of the headlines


def list_limits(run: run_lib.Run) -> list[str]:
    """A sentence for everything that makes the scores worth less, and what to do about it."""
    limits = [
        "Generated images only: no score here holds for a patient." if run.is_phantom else "",
        _warn_of_split(run),
        *_warn_of_shared(run),
        _warn_of_numbers(run.main),
        _warn_of_patients(run),
        _warn_of_baselines(run.main),
        _warn_of_lungs(run),
        _warn_of_pixels(run),
        "One training run: another seed gives another network, which the intervals do not cover.",
        "Before anything relies on this network, measure it on images of the kind it is to be used"
        " on, annotated by somebody who can.",
    ]
    return [limit for limit in limits if limit]


def _warn_of_split(run: run_lib.Run) -> str:
    split, chosen = run.main.split, list_chosen(run.config)
    text = "The test split was not scored: the scores are of"
    if split == "test":
        return ""
    if split == "train":
        text = f"{text} the images that the network was trained on, and so are too good."
        return glossary.reword(text, run.task)
    if not chosen:
        return f"{text} the validation split."
    return f"{text} the validation split, which decided {', '.join(chosen)}: they are too good."


def _warn_of_shared(run: run_lib.Run) -> list[str]:
    """Patients of the scored split that had a say in what is scored."""
    scored = run.main.split
    own = set(run.patients.get(scored, ()))
    decided = {"train": ["the weights"], "validation": list_chosen(run.config)}
    warnings = []
    for split, what in decided.items():
        shared = own & set(run.patients.get(split, ())) if split != scored else set()
        if shared and what:
            count = glossary.count(len(own), "patient", run.task)
            warnings.append(
                f"{len(shared):,} of {count} of the {scored} split are in the {split} split too,"
                f" which decides {', '.join(what)}: the scores are too good."
            )
    return warnings


def list_chosen(config: Mapping[str, Any]) -> list[str]:
    """What the validation split decides: none, some or all of checkpoint, threshold and so on.

    Args:
        config: of the run, one level of sections; fields may be missing.
    """
    task, control = config.get("task", {}), config.get("control", {})
    decided = {
        "the checkpoint": config.get("selection", "last") != "last",
        "the threshold": task.get("threshold") == 0,
        "the learning rate": control.get("plateau_patience", 0) > 0,
        "the end of training": control.get("stop_patience", 0) > 0,
    }
    return [what for what, does in decided.items() if does]


def _warn_of_numbers(summary: run_files.Summary) -> str:
    text = f"The {summary.split} split has {tables.count_images(summary)}"
    if summary.num_patients < _FEW:
        few = f"{text}: few, so chance has a large part in every score."
        return " ".join([few, *notes.warn_of_few(summary)])
    return f"{text}."


def _warn_of_patients(run: run_lib.Run) -> str:
    if any(summary.num_patients != summary.num_images for summary in run.summaries):
        return ""
    return glossary.reword(
        "Every image counts as a patient of its own. If some show the same person, splits may share"
        " people, and the scores are too good.",
        run.task,
    )


def _warn_of_baselines(summary: run_files.Summary) -> str:
    """Baselines that the network does not beat, by the first headline that grows with quality."""
    keys = [key for key in terms.HEADLINES.get(summary.task, ()) if key not in _LOWER_IS_BETTER]
    key = next((key for key in keys if key in summary.scores), "")
    ours = summary.scores.get(key)
    theirs = {name: each["scores"].get(key) for name, each in summary.baselines.items()}
    better = [
        markdown.escape(tables.spell(name))
        for name, score in theirs.items()
        if ours is not None and score is not None and score >= ours
    ]
    if not better:
        return ""
    label = glossary.find_term(key, summary.task, summary.levels).label
    return f"By {label} these are as good or better without a network: {', '.join(better)}."


def _warn_of_lungs(run: run_lib.Run) -> str:
    """Annotated lungs that the scores suppose."""
    task = run.section("task")
    sees_inside = task.get("region") == "lung" or task.get("lungs") == "true"
    if not sees_inside and not run.section("inference").get("inside_lungs", False):
        return ""
    return (
        f"The scores suppose that the lungs of every {run.kind} are annotated; with lungs that a"
        " network found they may be worse."
    )


def _warn_of_pixels(run: run_lib.Run) -> str:
    size = run.section("data").get("image_size")
    if size is None:
        return ""
    return f"The network sees {size} by {size} pixels of an image: what is finer is lost."
