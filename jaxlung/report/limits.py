"""Limitations of a run that its model card must state, as far as its files show them."""

from collections.abc import Mapping
from typing import Any

from jaxlung.config import run_files
from jaxlung.report import glossary, markdown, notes, tables
from jaxlung.report import run as run_lib
from jaxlung.tasks import words

_FEW = 100  # patients; the card warns of fewer (our choice)
_LOWER_IS_BETTER = ("mae", "hd95", "volume_error_ml")  # among the main scores


def list_limits(run: run_lib.Run) -> list[str]:
    """Returns a sentence for each limitation of the scores, and what to do about them."""
    limits = [
        "All images are generated: no score in this card holds for patients."
        if run.is_phantom
        else "",
        _warn_of_split(run),
        *_warn_of_shared(run),
        _warn_of_numbers(run.main),
        _warn_of_patients(run),
        _warn_of_baselines(run.main),
        _warn_of_lungs(run),
        _warn_of_pixels(run),
        "These are the scores of a single training run. Another random seed gives another network,"
        " and the intervals do not cover that difference.",
        "Before you rely on this network, measure it on images of the kind that you will use it on,"
        " annotated by a qualified reader.",
    ]
    return [limit for limit in limits if limit]


def _warn_of_split(run: run_lib.Run) -> str:
    split, chosen = run.main.split, list_chosen(run.config)
    text = "The test split was not scored: the scores are from the"
    if split == "test":
        return ""
    if split == "train":
        text = f"{text} images that the network was trained on, so they are too optimistic."
        return glossary.reword(text, run.task)
    if not chosen:
        return f"{text} validation split."
    return (
        f"{text} validation split, which was used to choose {glossary.join(chosen)}, so they are"
        " too optimistic."
    )


def _warn_of_shared(run: run_lib.Run) -> list[str]:
    """Returns warnings of patients of the scored split who influenced what is scored."""
    scored = run.main.split
    own = set(run.patients.get(scored, ()))
    uses = {"train": "train the network", "validation": ""}
    if chosen := list_chosen(run.config):
        uses["validation"] = f"choose {glossary.join(chosen)}"
    warnings = []
    for split, use in uses.items():
        shared = own & set(run.patients.get(split, ())) if split != scored else set()
        if shared and use:
            count = glossary.count(len(own), "patient", run.task)
            warnings.append(
                f"{len(shared):,} of {count} of the {scored} split are also in the {split} split,"
                f" which was used to {use}: the scores are too optimistic."
            )
    return warnings


def list_chosen(config: Mapping[str, Any]) -> list[str]:
    """Returns what the validation split was used to choose: the checkpoint, the threshold etc.

    Args:
        config: Config of the run, with one level of sections; fields may be missing.
    """
    task, control = config.get("task", {}), config.get("control", {})
    decided = {
        "the checkpoint": config.get("selection", "last") != "last",
        "the threshold": task.get("threshold") == 0,
        "the temperature": config.get("calibrate", False),
        "the learning rate": control.get("plateau_patience", 0) > 0,
        "the end of training": control.get("stop_patience", 0) > 0,
    }
    return [name for name, is_chosen in decided.items() if is_chosen]


def _warn_of_numbers(summary: run_files.Summary) -> str:
    text = f"The {summary.split} split has {tables.count_images(summary)}"
    if summary.num_patients < _FEW:
        few = f"{text}, which is few: chance has a large effect on every score."
        return " ".join([few, *notes.warn_of_few(summary)])
    return f"{text}."


def _warn_of_patients(run: run_lib.Run) -> str:
    if any(summary.num_patients != summary.num_images for summary in run.summaries):
        return ""
    return glossary.reword(
        "Each image is counted as a different patient. If some images show the same person, the"
        " splits may share people, and the scores are then too optimistic.",
        run.task,
    )


def _warn_of_baselines(summary: run_files.Summary) -> str:
    """Returns which baselines the network does not beat.

    They are compared by the first main score that is higher for better networks.
    """
    headlines = words.find(summary.task).headlines
    keys = (key for key in headlines if key not in _LOWER_IS_BETTER)
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
    return f"By {label}, the network is no better than these baselines: {', '.join(better)}."


def _warn_of_lungs(run: run_lib.Run) -> str:
    """Returns a warning if the scores depend on annotated lungs."""
    task = run.section("task")
    sees_inside = task.get("region") == "lung" or task.get("lungs") == "true"
    if not sees_inside and not run.section("inference").get("inside_lungs", False):
        return ""
    return (
        f"The scores use the annotated lungs of each {run.words.modality}. With lungs found by a"
        " network, they may be lower."
    )


def _warn_of_pixels(run: run_lib.Run) -> str:
    size = run.section("data").get("image_size")
    if size is None:
        return ""
    return f"The network sees each image at {size} by {size} pixels: finer detail is lost."
