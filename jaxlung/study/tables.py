"""A study's table: Markdown to read, CSV to compute with."""

import csv
import io
import math
from collections.abc import Sequence

from jaxlung.report import glossary, terms
from jaxlung.study import outputs, results
from jaxlung.study import study as study_lib

DASH = "\N{EN DASH}"
LOSSES = ("loss_train", "loss_validation")  # of the last epoch


def to_csv(study: study_lib.Study, shown: Sequence[results.Result]) -> str:
    """A row per run: each score with "_low" and "_high", its 95 % interval, and final losses.

    The paper's rows follow, "paper" in column "source". What is not known is an empty cell.
    """
    ends = [(key, f"{key}_low", f"{key}_high") for key in study.columns]
    head = ["source", "run", "label", "config", "step", "epochs", "num_images"]
    text = io.StringIO()
    names = [*head, *LOSSES, *(name for part in ends for name in part)]
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    for result in shown:
        row = {
            "source": "run",
            "run": result.run.name,
            "label": result.run.label,
            "config": result.run.config,
            "step": result.summary.step,
            "epochs": result.epochs,
            "num_images": result.summary.num_images,
            "loss_train": result.loss,
            "loss_validation": result.val_loss,
        }
        for part in ends:
            low, high = result.summary.intervals.get(part[0], (None, None))
            numbers = (result.summary.scores.get(part[0]), low, high)
            row |= dict(zip(part, numbers, strict=True))
        writer.writerow(row)
    for paper in study.paper:
        writer.writerow({"source": "paper", "label": paper.label, **paper.scores})
    return text.getvalue()


def to_markdown(
    study: study_lib.Study, found: Sequence[results.Result], images: outputs.Outputs | None
) -> str:
    """The table, what is to be said about it, the figures and the list of runs.

    Args:
        study: what was run.
        found: all runs, those outside the table too.
        images: what the figure of outputs shows; None if there is none.
    """
    shown = [result for result in found if result.run.in_table]
    parts = [f"# {study.title}", _score_table(study, shown), _list([*study.notes, *_facts(shown)])]
    parts += ["![Test scores of every run with 95 % intervals](study.png)"]
    if images is not None:
        parts += [describe_images(images)]
        parts += ["![Input, annotation and raw output of every run](figures/outputs.png)"]
    parts += ["## Runs", _list([_describe_run(result) for result in found])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _score_table(study: study_lib.Study, shown: Sequence[results.Result]) -> str:
    task = shown[0].summary.task
    levels = shown[0].summary.levels
    labels = [glossary.find_term(key, task, levels).label for key in study.columns]
    head = ["run", *labels, "training loss", "validation loss"]
    rows = [
        [
            result.run.label,
            *(_cell(result, key) for key in study.columns),
            *(glossary.format_score("loss", value) for value in (result.loss, result.val_loss)),
        ]
        for result in shown
    ]
    for paper in study.paper:
        numbers = [paper.scores.get(key) for key in study.columns]
        cells = [DASH if number is None else f"*{number}*" for number in numbers]
        rows.append([f"*paper: {paper.label}*", *cells, DASH, DASH])
    rules = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(map(_escape, row)) + " |" for row in (head, rules, *rows))


def _cell(result: results.Result, key: str) -> str:
    """ "0.9123 (0.901-0.920)" """
    text = glossary.format_score(key, result.summary.scores.get(key))
    interval = glossary.format_interval(key, result.summary.intervals.get(key))
    return f"{text} ({interval})" if interval else text


def _escape(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _facts(shown: Sequence[results.Result]) -> list[str]:
    """What the numbers in the table are."""
    summary = shown[0].summary
    sentences = [
        f"Scores of the test split, {summary.num_images:,} images of {summary.num_patients:,} "
        "patients; in brackets the 95 % interval over resamples of the patients.",
        "Losses are those of the last epoch; runs that minimise different losses can't be compared "
        "by them.",
    ]
    others = [result for result in shown if result.summary.num_images != summary.num_images]
    sentences += [
        f"{result.run.label}: {result.summary.num_images:,} test images." for result in others
    ]
    if any(result.config.data.get("phantom_images", 0) for result in shown):
        sentences.append("**Generated X-rays (phantoms): these numbers say nothing of patients.**")
    return sentences


def describe_images(images: outputs.Outputs) -> str:
    """Which test images the figure shows, and why these."""
    named = [
        f"no. {number} ({image_id})"
        for number, image_id in zip(images.numbers, images.image_ids, strict=True)
    ]
    text = f"Test images {', '.join(named)}, counted from 1 in the order of `splits.csv`"
    if max(images.wanted) <= images.num_images:
        return f"{text}."
    wanted = ", ".join(map(str, images.wanted))
    return f"{text}: the split has {images.num_images}, so no. {wanted} are not all there."


def _describe_run(result: results.Result) -> str:
    """ "bce: covidqu_residual:loss=bce, 100 epochs, ..., [report](runs/bce/report.html)" """
    overrides = result.run.overrides.items()
    changed = [f"{field} = {value}".replace("{runs}", "runs") for field, value in overrides]
    said = [
        f"`{result.run.config}`" + (f" with {', '.join(changed)}" if changed else ""),
        f"seed {result.config.seed}",
        f"{result.epochs} epochs",
        f"step {result.summary.step} scored",
    ]
    if not result.run.in_table:  # Its scores stand nowhere else.
        said += _headlines(result)
    link = f"[report](runs/{result.run.name}/report.html)"
    return f"{result.run.label}: {', '.join(said)}; {link}"


def _headlines(result: results.Result) -> list[str]:
    task, scores = result.summary.task, result.summary.scores
    keys = [key for key in terms.HEADLINES.get(task, ()) if math.isfinite(scores.get(key) or 0)]
    return [
        f"test {glossary.find_term(key, task).label} {glossary.format_score(key, scores.get(key))}"
        for key in keys
    ]
