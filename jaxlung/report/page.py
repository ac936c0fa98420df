"""One self-contained page about a run, from the files in its workdir."""

import dataclasses
import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from etils import epath

from jaxlung.config import run_files
from jaxlung.host import files
from jaxlung.report import (
    amounts,
    facts,
    glossary,
    notes,
    pictures,
    sizes,
    tables,
    terms,
    volume_files,
    volume_terms,
)

NUM_HEADLINES = 4


@dataclasses.dataclass(frozen=True)
class Headline:
    """A score that stands large, its interval or "", and what paper and baselines reach."""

    label: str
    text: str
    interval: str
    others: list[str]


def build(workdir: epath.PathLike) -> epath.Path:
    """Writes `report.html` and `figures/*.png` from what the workdir holds.

    The page needs no other file and no network. What the workdir lacks is left out of it.

    Args:
        workdir: of a run that was evaluated on at least one split.

    Returns:
        The page.

    Raises:
        ValueError: no split was evaluated, or a file is damaged.
    """
    workdir = epath.Path(workdir).resolve()
    summaries = run_files.load_summaries(workdir)
    config, metrics = run_files.load_config(workdir), run_files.load_metrics(workdir)
    main = summaries[-1]  # Test where there is one.
    page = _load_template(main.task).render(
        name=workdir.name,
        made=datetime.datetime.now(datetime.UTC),
        main=main,
        num_images=tables.count_images(main),
        headlines=_choose_headlines(main),
        facts=facts.list_facts(config, metrics, main.threshold),
        is_phantom=facts.is_phantom(config),
        has_paper=any(summary.paper for summary in summaries),
        config=json.dumps(config, indent=2) if config else "",
        threshold_origin=facts.find_origin(config),
        inside_lungs=config.get("inference", {}).get("inside_lungs", False),
        terms=_list_terms(summaries),
        empty_rule=glossary.empty_rule(main.task),
        **_lay_out(workdir, summaries, config),
        **_draw(workdir, main, config, metrics),
        links=_list_links(workdir),  # Last: the figures are among them.
    )
    files.write_text(workdir / "report.html", page)
    return workdir / "report.html"


def _lay_out(
    workdir: epath.Path, summaries: Sequence[run_files.Summary], config: Mapping[str, Any]
) -> dict[str, Any]:
    """The tables and the notes on them, by their names in the template."""
    main = summaries[-1]
    return dict(
        split_table=tables.split_table(summaries),
        stored_table=tables.stored_table(summaries),
        notes=notes.list_notes(summaries, facts.find_paper_note(config)),
        baseline_table=tables.baseline_table(main) if main.baselines else None,
        level_table=tables.level_table(summaries),
        group_table=tables.group_table(main) if main.by_group else None,
        size_table=sizes.size_table(main),
        subject_table=amounts.subject_table(
            run_files.load_rows(workdir / f"scores_{main.split}.csv"),
            config.get("paper", {}).get("subjects", ()),
        ),
        confusion_table=tables.confusion_table(main),
    )


def _draw(
    workdir: epath.Path,
    main: run_files.Summary,
    config: Mapping[str, Any],
    metrics: Mapping[str, np.ndarray],
) -> dict[str, pictures.Picture | None]:
    """The figures by their names in the template."""
    loss = facts.name_loss(config)
    is_volumetric = main.task == glossary.VOLUME_MASK
    return dict(
        curves=pictures.draw_curves(workdir, metrics, loss, main.task) if metrics else None,
        thresholds=pictures.draw_thresholds(workdir, main),
        roc=pictures.draw_roc(workdir, main),
        calibration=pictures.draw_calibration(workdir, main),
        # Single volumes have a table.
        spread=None if is_volumetric else pictures.draw_spread(workdir, main.split),
        panels=pictures.draw_panels(workdir, is_binary=len(main.levels) == 2),
        seen=pictures.draw_seen(workdir),
        planes=pictures.draw_planes(workdir, volume_files.load_subjects(workdir)),
        amounts=pictures.draw_amounts(workdir, main.levels[-1]) if is_volumetric else None,
    )


def _load_template(task: str) -> jinja2.Template:
    # Names of images, folders and groups come from a user's files: all text is escaped.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxlung", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["reword"] = functools.partial(glossary.reword, task=task)
    return environment.get_template("page.html.jinja")


def _choose_headlines(summary: run_files.Summary) -> list[Headline]:
    headlines = []
    for name in terms.HEADLINES.get(summary.task, [*summary.scores])[:NUM_HEADLINES]:
        key = next((k for k in (name + terms.STORED, name) if k in summary.scores), None)
        if key is None:
            continue
        others = {}
        if name in summary.paper:
            others["the paper"] = glossary.format_paper(summary.paper[name])
        for baseline, each in summary.baselines.items():
            if key in each["scores"]:
                score = each["scores"][key]
                others[tables.spell(baseline)] = glossary.format_score(key, score)
        told = [f"{who} {text}" for who, text in others.items()]
        if undefined := summary.undefined.get(key, 0):
            number = glossary.count(summary.num_images, "image", summary.task)
            told.insert(0, f"{summary.num_images - undefined:,} of {number}")
        term = glossary.find_term(key, summary.task, summary.levels)
        headlines.append(
            Headline(
                f"{term.label}, {term.unit}" if term.unit else term.label,
                glossary.format_score(key, summary.scores[key]),
                glossary.format_interval(key, summary.intervals.get(key)),
                told,
            )
        )
    return headlines


def _list_terms(summaries: Sequence[run_files.Summary]) -> dict[str, str]:
    """Label -> definition of every score on the page, those of single levels once."""
    task, levels = summaries[0].task, summaries[0].levels
    groups = tables.find_groups(summaries[0], [summary.scores for summary in summaries])
    listed = [glossary.find_term(key, task, levels) for group in groups for key in group.labels]
    if any(key.endswith(terms.STORED) for summary in summaries for key in summary.scores):
        listed.append(terms.STORED_TERM)
    if tables.level_table(summaries):
        listed += [
            dataclasses.replace(term, label=f"{term.label} of a level")
            for term in terms.LEVEL_TERMS.values()
        ]
    if task != "three_level":
        listed.append(terms.COUNTS_TERM)
    if summaries[-1].threshold is not None:
        listed.append(terms.THRESHOLD_TERM)
    if summaries[-1].roc:
        listed.append(terms.ROC_TERM)
    if summaries[-1].calibration:
        listed += [glossary.find_term(name, task) for name in ("ece", "ace")]
    if summaries[-1].by_size:
        listed.append(terms.SIZE_TERM)
    if task == glossary.VOLUME_MASK and any(summary.sd for summary in summaries):
        listed.append(volume_terms.SPREAD_TERM)
    if any(summary.intervals for summary in summaries):
        listed.append(terms.INTERVAL_TERM)
    return {t.label: glossary.reword(t.definition, task) for t in listed if t.definition}


def _list_links(workdir: epath.Path) -> list[str]:
    """Files beside the page that hold its numbers and figures, relative to it."""
    # No glob(): it would read a "[" in the folder's own name as a pattern.
    paths = [path for path in workdir.iterdir() if path.suffix in (".csv", ".json")]
    if (workdir / "figures").exists():
        paths += [path for path in (workdir / "figures").iterdir() if path.suffix == ".png"]
    return sorted(path.relative_to(workdir).as_posix() for path in paths)
