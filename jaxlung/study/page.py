"""A study's page: one self-contained HTML file that shows its runs side by side."""

import functools
from collections.abc import Sequence

from etils import epath

from jaxlung.host import files
from jaxlung.report import pictures, templates
from jaxlung.study import charts, contents, out_of_fold, outputs, sweep_chart, sweep_results
from jaxlung.study import rows as rows_lib

CHART, DIFFERENCES, OUTPUTS = "study.png", "figures/differences.png", "figures/outputs.png"
SWEEP = "sweep.png"


def build(
    content: contents.Contents,
    table: Sequence[rows_lib.Row],
    images: outputs.Outputs | None,
    path: epath.Path,
    swept: sweep_results.SweepResults | None = None,
) -> epath.Path:
    """Writes `study.html`, `study.png` and, if there are any, the figures of the other sections.

    The page needs no other file and no network; its links lead to the reports of the runs.

    Args:
        content: Text of the study.
        table: Rows of the score table, for the chart.
        images: Content of the figure of outputs; None for no such figure.
        path: The study's folder.
        swept: Results of a sweep, for its figure; None for none.

    Returns:
        Path of the page.
    """
    make_chart = functools.partial(charts.score_chart, content.labels, table)
    links = ["study.md", "study.csv", *out_of_fold.tables(path), CHART]
    shown, differences = None, None
    section = content.differences
    if section and section.table:
        make_differences = functools.partial(charts.difference_chart, section)
        differences = pictures.draw_both(path / DIFFERENCES, section.chart, make_differences)
        links += ["study_differences.csv", DIFFERENCES]
    if images:
        shown = pictures.draw_one(path / OUTPUTS, content.outputs, charts.output_panels(images))
        links.append(OUTPUTS)
    fields = None
    if swept and content.sweep:
        make_fields = functools.partial(sweep_chart.field_chart, swept, content.sweep.label)
        fields = pictures.draw_both(path / SWEEP, content.sweep.chart, make_fields)
        links += ["sweep.csv", SWEEP]
    text = templates.render(
        "study/page.html.jinja",
        title=content.title,
        content=content,
        chart=pictures.draw_both(path / CHART, content.chart, make_chart),
        differences=differences,
        outputs=shown,
        fields=fields,
        links=links,
    )
    files.write_text(path / "study.html", text)
    return path / "study.html"
