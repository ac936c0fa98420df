"""One self-contained page that shows a study's runs side by side."""

import base64
import datetime
from collections.abc import Sequence

import jinja2
from etils import epath

from jaxlung.host import files
from jaxlung.report import figures, pictures
from jaxlung.study import charts, contents, outputs, results
from jaxlung.study import rows as rows_lib
from jaxlung.study import study as study_lib

CHART, OUTPUTS = "study.png", "figures/outputs.png"


def build(
    study: study_lib.Study,
    found: Sequence[results.Result],
    table: Sequence[rows_lib.Row],
    images: outputs.Outputs | None,
    path: epath.Path,
) -> epath.Path:
    """Writes `study.html`, `study.png` and, where images are shown, `figures/outputs.png`.

    The page needs no other file and no network; its links lead to the runs' own pages.

    Args:
        study: what was run.
        found: all runs, those outside the table too.
        table: its rows.
        images: what the figure of outputs shows; None for no such figure.
        path: the study's folder.

    Returns:
        The page.
    """
    told = contents.make(study, found, table, images)
    shown = [result for result in found if result.run.in_table]
    text = _load_template().render(
        told=told,
        made=datetime.datetime.now(datetime.UTC),
        chart=_draw_chart(contents.label_columns(study, shown), table, told.chart, path),
        outputs=_draw_outputs(images, told.outputs, path) if images else None,
        links=["study.md", "study.csv", CHART, *([OUTPUTS] if images else [])],
    )
    files.write_text(path / "study.html", text)
    return path / "study.html"


def _draw_chart(
    labels: dict[str, str], table: Sequence[rows_lib.Row], alt: str, path: epath.Path
) -> pictures.Picture:
    light, dark = (
        figures.to_png(charts.score_chart(labels, table, theme))
        for theme in (figures.LIGHT, figures.DARK)
    )
    files.write_bytes(path / CHART, light)
    return pictures.Picture(_encode(light), _encode(dark), alt)


def _draw_outputs(images: outputs.Outputs, alt: str, path: epath.Path) -> pictures.Picture:
    png = figures.to_png(charts.output_panels(images))
    (path / OUTPUTS).parent.mkdir(exist_ok=True)
    files.write_bytes(path / OUTPUTS, png)
    return pictures.Picture(_encode(png), _encode(png), alt)


def _load_template() -> jinja2.Template:
    # Labels and names of images come from a user's files: all text is escaped.
    environment = jinja2.Environment(
        loader=jinja2.PrefixLoader(
            {room: jinja2.PackageLoader("jaxlung", room) for room in ("report", "study")}
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("study/page.html.jinja")


def _encode(png: bytes) -> str:
    return base64.b64encode(png).decode()
