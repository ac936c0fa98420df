"""The report of a run: one self-contained HTML page made from the files in its folder."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from jaxlung.config import run_files
from jaxlung.host import files
from jaxlung.report import (
    amounts,
    facts,
    glossary,
    notes,
    pictures,
    run,
    sizes,
    tables,
    templates,
    terms,
    volume_files,
    volume_terms,
)
from jaxlung.tasks import words

NUM_HEADLINES = 4


@dataclasses.dataclass(frozen=True)
class Headline:
    """A main score, in large print at the top of the page.

    Attributes:
        label: Name of the score, with its unit.
        text: The score.
        interval: Its 95 % interval, or "".
        others: How many images have the score, if not all do; scores of the paper and baselines.
    """

    label: str
    text: str
    interval: str
    others: list[str]


def build(workdir: epath.PathLike) -> epath.Path:
    """Writes `report.html` and `figures/*.png` from the files in a run's folder.

    The page needs no other file and no network. Sections whose files are missing are left out.

    Args:
        workdir: Folder of a run that was evaluated on at least one split.

    Returns:
        Path of the page.

    Raises:
        ValueError: no split was evaluated, or a file is damaged.
    """
    shown = run.load(workdir)
    main = shown.main
    page = templates.render(
        "report/page.html.jinja",
        title=shown.path.name,
        main=main,
        words=shown.words,
        say=functools.partial(glossary.reword, task=shown.task),
        num_images=tables.count_images(main),
        headlines=_choose_headlines(main),
        facts=facts.list_facts(shown.config, shown.metrics, main.threshold, main.temperature),
        is_phantom=shown.is_phantom,
        has_paper=any(summary.paper for summary in shown.summaries),
        config=json.dumps(shown.config, indent=2) if shown.config else "",
        threshold_origin=facts.find_origin(shown.config),
        inside_lungs=shown.section("inference").get("inside_lungs", False),
        terms=_list_terms(shown.summaries),
        empty_rule=glossary.empty_rule(shown.task),
        **_lay_out(shown),
        **_draw(shown),
        links=_list_links(shown.path),  # Last, as the figures are among them.
    )
    files.write_text(shown.path / "report.html", page)
    return shown.path / "report.html"


def _lay_out(shown: run.Run) -> dict[str, Any]:
    """Returns the tables and their notes by their names in the template."""
    main, summaries = shown.main, shown.summaries
    return dict(
        split_table=tables.split_table(summaries),
        stored_table=tables.stored_table(summaries),
        notes=notes.list_notes(summaries, facts.find_paper_note(shown.config)),
        baseline_table=tables.baseline_table(main) if main.baselines else None,
        level_table=tables.level_table(summaries),
        group_table=tables.group_table(main) if main.by_group else None,
        size_table=sizes.size_table(main),
        subject_table=amounts.subject_table(
            run_files.load_rows(shown.path / f"scores_{main.split}.csv"),
            shown.section("paper").get("subjects", ()),
        ),
        confusion_table=tables.confusion_table(main),
    )


def _draw(shown: run.Run) -> dict[str, pictures.Picture | None]:
    """Returns the figures by their names in the template."""
    workdir, main, metrics = shown.path, shown.main, shown.metrics
    loss = facts.name_loss(shown.config)
    is_volumetric = shown.words.is_volumetric
    return dict(
        curves=pictures.draw_curves(workdir, metrics, loss, main.task) if metrics else None,
        thresholds=pictures.draw_thresholds(workdir, main),
        roc=pictures.draw_roc(workdir, main),
        calibration=pictures.draw_calibration(workdir, main),
        # Single volumes have a table instead.
        spread=None if is_volumetric else pictures.draw_spread(workdir, main.split),
        panels=pictures.draw_panels(workdir, is_binary=len(main.levels) == 2),
        seen=pictures.draw_seen(workdir),
        planes=pictures.draw_planes(workdir, volume_files.load_subjects(workdir)),
        amounts=pictures.draw_amounts(workdir, main.levels[-1]) if is_volumetric else None,
    )


def _choose_headlines(summary: run_files.Summary) -> list[Headline]:
    """Returns the main scores that the run has, at the stored size if it has them there."""
    headlines = []
    for name in (words.find(summary.task).headlines or tuple(summary.scores))[:NUM_HEADLINES]:
        key = next((k for k in (name + terms.STORED, name) if k in summary.scores), None)
        if key is None:
            continue
        others = [f"{who} {text}" for who, text in _find_others(summary, name, key).items()]
        if undefined := summary.undefined.get(key, 0):
            number = glossary.count(summary.num_images, "image", summary.task)
            others.insert(0, f"{summary.num_images - undefined:,} of {number}")
        headlines.append(
            Headline(
                glossary.label_with_unit(glossary.find_term(key, summary.task, summary.levels)),
                glossary.format_score(key, summary.scores[key]),
                glossary.format_interval(key, summary.intervals.get(key)),
                others,
            )
        )
    return headlines


def _find_others(summary: run_files.Summary, name: str, key: str) -> dict[str, str]:
    """Returns the same score of the paper and of the baselines."""
    others = {}
    if name in summary.paper:
        others["the paper"] = glossary.format_paper(summary.paper[name])
    for baseline, each in summary.baselines.items():
        if key in each["scores"]:
            others[tables.spell(baseline)] = glossary.format_score(key, each["scores"][key])
    return others


def _list_terms(summaries: Sequence[run_files.Summary]) -> dict[str, str]:
    """Returns label -> definition of every score on the page; those of levels only once."""
    main, task, levels = summaries[-1], summaries[0].task, summaries[0].levels
    groups = tables.find_groups(summaries[0], [summary.scores for summary in summaries])
    listed = [glossary.find_term(key, task, levels) for group in groups for key in group.labels]
    if any(key.endswith(terms.STORED) for summary in summaries for key in summary.scores):
        listed.append(terms.STORED_TERM)
    if tables.level_table(summaries):
        listed += [
            dataclasses.replace(term, label=f"{term.label} of a level")
            for term in terms.LEVEL_TERMS.values()
        ]
    if len(levels) == 2:
        listed.append(terms.COUNTS_TERM)
    if main.threshold is not None:
        listed.append(terms.THRESHOLD_TERM)
    if main.temperature is not None:
        listed.append(terms.TEMPERATURE_TERM)
    if main.roc:
        listed.append(terms.ROC_TERM)
    if main.calibration:
        listed += [glossary.find_term(name, task) for name in ("ece", "ace")]
    if main.by_size:
        listed.append(terms.SIZE_TERM)
    if words.find(task).is_volumetric and any(summary.sd for summary in summaries):
        listed.append(volume_terms.SPREAD_TERM)
    if any(summary.intervals for summary in summaries):
        listed.append(terms.INTERVAL_TERM)
    return {t.label: glossary.reword(t.definition, task) for t in listed if t.definition}


def _list_links(workdir: epath.Path) -> list[str]:
    """Returns the run's tables and figures, relative to the page."""
    # No glob(): it would read a "[" in the folder's own name as a pattern.
    paths = [path for path in workdir.iterdir() if path.suffix in (".csv", ".json")]
    if (workdir / "figures").exists():
        paths += [path for path in (workdir / "figures").iterdir() if path.suffix == ".png"]
    return sorted(path.relative_to(workdir).as_posix() for path in paths)
