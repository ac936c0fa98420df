"""A study's page: what the Markdown says, self-contained, escaped, in light and dark."""

import base64
import io
import re

import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxlung.report import figures
from jaxlung.study import charts, contents, outputs, results, rows, runner, tables
from tests.report import page_parser
from tests.study import made_study

DASH = "\N{EN DASH}"
PNG = "data:image/png;base64,"


def parse(text):
    return page_parser.Page(text, small=" | ")


def tidy(text):
    return " ".join(text.split())


def unmark(markdown):
    return tidy(re.sub(r"[*`]", "", markdown))


@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain")
    return parse(made_study.write_page(path, images=made_study.make_images()))


@pytest.fixture
def plain_figures(monkeypatch):
    """Figures that are not drawn, for tests of the text."""
    monkeypatch.setattr(figures, "to_png", lambda figure: repr(figure.get_facecolor()).encode())


def test_the_table_has_means_intervals_and_the_papers_row(parsed):
    heads = ["Run", "Dice", "HD95, pixels", "IoU", "training loss", "validation loss"]
    losses, interval = ["0.5000", "0.7500"], f" | 0.125{DASH}0.875"
    assert [[tidy(cell) for cell in row] for row in parsed.rows] == [
        heads,
        ["net se", f"0.6000{interval}", "10.50", DASH, *losses],
        ["net se_seed1", f"0.7000{interval}", f"{DASH} | n = 2", DASH, *losses],
        # ((0.05 ** 2 + 0.05 ** 2) / (2 - 1)) ** 0.5 = 0.0707
        [
            "SE : mean \N{PLUS-MINUS SIGN} SD over 2 seeds",
            "0.650 \N{PLUS-MINUS SIGN} 0.071",
            "10.50 | n = 1",
            DASH,
            *losses,
        ],
        ["net plain", f"0.2500{interval}", "3.25", DASH, *losses],
        ["paper: table 1", "0.7627", DASH, DASH, DASH, DASH],
    ]


def test_every_run_has_its_config_changes_scores_and_report(parsed):
    cards = [tidy(item) for item in parsed.items if "Report of" in item]
    facts, interval = "2 epochs, step 1,500 scored", f"0.125{DASH}0.875"
    changes = "with seed = 1, x = runs/lungs"
    assert [card.split(" Report of")[0] for card in cards] == [
        f"net lungs covidqu:quick seed 0, {facts} Dice 0.9000 | {interval} HD95 1.00 pixels",
        f"net se covidqu:quick seed 0, {facts} Dice 0.6000 | {interval} HD95 10.50 pixels",
        f"net se_seed1 covidqu:quick {changes} seed 1, {facts} Dice 0.7000 | {interval}",
        f"net plain covidqu:quick with y = z seed 0, {facts} Dice 0.2500 | {interval}"
        " HD95 3.25 pixels",
    ]
    links = [link for link in parsed.references if not link.startswith(PNG)]
    assert links == [
        *(f"runs/{name}/report.html" for name in made_study.SCORES),
        *("study.md", "study.csv", "study.png", "figures/outputs.png"),
    ]


@pytest.mark.usefixtures("plain_figures")
@pytest.mark.parametrize("task", ["mask", "volume_mask"])
def test_the_markdown_says_nothing_that_the_page_does_not(task, tmp_path):
    images = made_study.make_images()
    made, found = made_study.make(tmp_path, task)
    shown = [result for result in found if result.run.in_table]
    content = contents.make(made, found, rows.make(made, shown), images)
    markdown = tables.to_markdown(content)
    page = parse(made_study.write_page(tmp_path, task, images=images))
    text = tidy(page.text)
    blocks, runs = markdown.split("## Runs")
    told = [line.lstrip("#>- ") for line in blocks.splitlines() if line and line[0] not in "|!"]
    assert len(told) > 6
    for line in told:
        assert unmark(line) in text
    for alt, path in re.findall(r"!\[(.*)\]\((.*)\)", markdown):
        assert alt in [image["alt"] for image in page.images]
        assert (tmp_path / path).exists()
    for line in runs.strip().splitlines():
        assert re.search(r"\]\((.*)\)$", line)[1] in page.references
        for part in re.split(": | with |, ", line[2:].split("; [")[0]):
            assert unmark(part).removeprefix("test ") in text


@pytest.mark.usefixtures("plain_figures")
def test_phantoms_are_told_in_a_box_of_their_own(tmp_path):
    text = made_study.write_page(tmp_path, "volume_mask")
    box = re.search('<div class="notice">(.*)</div>', text)[1]
    assert "<strong>Generated CTs (phantoms).</strong>" in box
    assert "cannot be compared with the paper" in box
    assert "X-ray" not in text


@pytest.mark.usefixtures("plain_figures")
def test_real_images_are_no_phantoms(tmp_path, monkeypatch):
    made, found = made_study.make(tmp_path)
    for result in found:
        result.config.data.phantom_images = 0
    monkeypatch.setattr(made_study, "make", lambda *args: (made, found))
    text = made_study.write_page(tmp_path)
    assert '<div class="notice">' not in text
    assert "phantom" not in text


@pytest.mark.usefixtures("plain_figures")
def test_the_page_is_whole_escaped_and_needs_nothing_else(tmp_path):
    evil = made_study.EVIL
    text = made_study.write_page(tmp_path, evil=evil, images=made_study.make_images(evil))
    page = parse(text)
    assert "script" not in page.tags
    assert page.text.count(evil) == 6  # Title twice, note, group, override, image.
    data = [each for each in page.references if each.startswith(PNG)]
    assert len(data) == 2 + 1  # The chart light and dark; outputs suit both.
    assert not re.search("https?:|url\\(|@import", text)
    assert all(tidy(image["alt"]) for image in page.images)
    assert text.count("<code>covidqu:quick</code>") == 1 + 4
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.usefixtures("plain_figures")
def test_without_images_there_is_no_figure_of_them(tmp_path):
    page = parse(made_study.write_page(tmp_path))
    assert page.tags.count("img") == 1
    assert "Outputs of each run" not in page.text
    assert "figures/outputs.png" not in page.references
    assert not (tmp_path / "figures").exists()


@pytest.mark.usefixtures("plain_figures")
def test_tables_of_out_of_fold_predictions_are_linked(tmp_path):
    folder = tmp_path / "out_of_fold" / "SE + FV"
    folder.mkdir(parents=True)
    (folder / "scores.csv").write_text("a table")
    page = parse(made_study.write_page(tmp_path))
    assert "out_of_fold/SE%20%2B%20FV/scores.csv" in page.references


def test_the_chart_suits_light_and_dark_pages(parsed):
    dark, light = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(each.removeprefix(PNG)))).convert("L"))
        for each in parsed.references[:2]
    )
    assert parsed.references[1] == parsed.images[0]["src"]  # Where no scheme is asked for.
    assert light.shape == dark.shape
    assert np.median(light) == 255
    assert np.median(dark) < 40
    assert light.min() < 60
    assert dark.max() > 200


@pytest.mark.parametrize("theme", [figures.LIGHT, figures.DARK])
def test_marks_have_the_colours_of_the_theme(theme, tmp_path):
    made, found = made_study.make(tmp_path)
    table = rows.make(made, found[1:])
    axes = charts.score_chart({"dice": "Dice"}, table, theme).axes[0]
    first, mean, paper = theme.first, theme.text, theme.second
    assert [line.get_color() for line in axes.lines[1::2]] == [first, first, mean, first, paper]


def test_the_chart_says_in_words_how_far_scores_go(parsed):
    alt = parsed.images[0]["alt"]
    assert "Dice: 0.2500 (net plain) to 0.7627 (paper: table 1)." in alt
    assert "HD95, pixels: 3.25 (net plain) to 10.50" in alt
    assert "IoU" not in alt


@pytest.mark.usefixtures("plain_figures")
def test_the_page_is_written_with_the_study_and_again(tmp_path, monkeypatch):
    made, found = made_study.make(tmp_path)
    by_name = {result.run.name: result for result in found}
    monkeypatch.setattr(results, "load", lambda run, config, path, split: by_name[run.name])
    monkeypatch.setattr(outputs, "collect", lambda wanted, found: made_study.make_images())
    for _ in range(2):
        runner.write(made, dict.fromkeys(by_name), epath.Path(tmp_path))
        page = parse((tmp_path / "study.html").read_text())
        links = [each for each in page.references if not each.startswith(("data:", "runs/"))]
        assert len(links) == 4
        for link in links:
            assert (tmp_path / link).stat().st_size
        (tmp_path / "study.html").unlink()
