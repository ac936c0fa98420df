"""One self-contained page about a run, from the files in its workdir."""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence

import jinja2
from etils import epath

from jaxlung import files
from jaxlung.report import facts, glossary, pictures, run_files, tables

NUM_HEADLINES = 4


@dataclasses.dataclass(frozen=True)
class Headline:
    """A score that stands large, and what the baselines reach."""

    label: str
    text: str
    baselines: list[str]


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
    page = _load_template().render(
        name=workdir.name,
        made=datetime.datetime.now(datetime.UTC),
        main=main,
        headlines=_choose_headlines(main),
        facts=facts.list_facts(config, metrics),
        is_phantom=facts.is_phantom(config),
        config=json.dumps(config, indent=2) if config else "",
        split_table=tables.split_table(summaries),
        stored_table=tables.stored_table(summaries),
        paper_note=_note_on_paper(main.paper),
        baseline_table=tables.baseline_table(main) if main.baselines else None,
        level_table=tables.level_table(summaries),
        group_table=tables.group_table(main) if main.by_group else None,
        curves=pictures.draw_curves(workdir, metrics) if metrics else None,
        spread=pictures.draw_spread(workdir, main.split),
        panels=pictures.draw_panels(workdir),
        terms=_list_terms(summaries),
        empty_rule=glossary.EMPTY_RULE,
        links=_list_links(workdir),
    )
    files.write_text(workdir / "report.html", page)
    return workdir / "report.html"


def _load_template() -> jinja2.Template:
    # Names of images, folders and groups come from a user's files: all text is escaped.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxlung", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja")


def _choose_headlines(summary: run_files.Summary) -> list[Headline]:
    headlines = []
    for key in [key for key in glossary.HEADLINES if key in summary.scores][:NUM_HEADLINES]:
        baselines = [
            f"{tables.spell(name)} {glossary.format_score(key, each['scores'][key])}"
            for name, each in summary.baselines.items()
            if key in each["scores"]
        ]
        label = glossary.find_term(key, summary.levels).label
        text = glossary.format_score(key, summary.scores[key])
        headlines.append(Headline(label, text, baselines))
    return headlines


def _note_on_paper(paper: Mapping[str, float]) -> str:
    if not paper:
        return ""
    note = "The paper's numbers are as printed there."
    if {"precision", "iou"} <= paper.keys() and paper["iou"] > paper["precision"]:
        note += (
            " It does not say how precision, recall and IoU were averaged, and no one averaging"
            f" gives them all: IoU is never above precision, yet {paper['iou']} stands beside"
            f" {paper['precision']}. So each stands below both of ours, macro and micro."
        )
    return note


def _list_terms(summaries: Sequence[run_files.Summary]) -> dict[str, str]:
    """Label -> definition of every score on the page, those of single levels once."""
    levels = summaries[0].levels
    keys = dict.fromkeys(key for summary in summaries for key in summary.scores)
    own_size = [key for key in keys if not key.endswith(glossary.STORED)]
    groups = glossary.choose_groups(own_size, levels)
    terms = [glossary.find_term(key, levels) for group in groups for key in group.columns]
    if len(own_size) < len(keys):
        terms.append(glossary.STORED_TERM)
    if tables.level_table(summaries):
        terms += [
            dataclasses.replace(term, label=f"{term.label} of a level")
            for term in glossary.LEVEL_TERMS.values()
        ]
    return {term.label: term.definition for term in terms if term.definition}


def _list_links(workdir: epath.Path) -> list[str]:
    """Files beside the page that hold its numbers and figures, relative to it."""
    # No glob(): it would read a "[" in the folder's own name as a pattern.
    paths = [path for path in workdir.iterdir() if path.suffix in (".csv", ".json")]
    if (workdir / "figures").exists():
        paths += [path for path in (workdir / "figures").iterdir() if path.suffix == ".png"]
    return sorted(path.relative_to(workdir).as_posix() for path in paths)
