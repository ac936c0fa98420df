"""What Markdown and page say about a sweep, and its figure."""

import dataclasses
import re

import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxlung.report import figures
from jaxlung.study import (
    contents,
    halving,
    importance,
    page,
    rows,
    sweep_chart,
    sweep_contents,
    sweep_results,
    tables,
)
from tests.report import page_parser
from tests.study import made_study, made_sweep

RATES = tuple(made_sweep.CURVES)


def make_found(rates=RATES, scores=(0.1, 0.6, 0.9, None), states=None, key="mean_iou"):
    """A sweep with a run per learning rate; the best one is the third."""
    states = states or ("stopped", "stopped", "best", "failed")
    runs = made_sweep.make_study().runs
    outcomes = [
        sweep_results.Outcome(
            run=run,
            values={"optimizer.learning_rate": rate, "task.loss": "bce" if rate < 1e-3 else "dice"},
            epochs=4 if state == "best" else 1,
            score=score,
            first_score=None if score is None else score / 2,
            state=state,
            failure="loss is <nan>" if state == "failed" else "",
        )
        for run, rate, score, state in zip(runs, rates, scores, states, strict=True)
    ]
    values = [outcome.values for outcome in outcomes]
    return sweep_results.SweepResults(
        outcomes=tuple(sorted(outcomes, key=lambda x: states.index(x.state) != 2)),
        effects=importance.measure(values, scores),
        rungs=(halving.Rung(1, 4), halving.Rung(4, 1)),
        key=key,
    )


def tidy(text):
    return " ".join(re.sub(r"[*`\\]", "", text).split())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Markdown and page of a made-up study whose run is the best of a sweep."""
    path = epath.Path(tmp_path_factory.mktemp("sweep"))
    made, found = made_study.make(path)
    best = [result for result in found if result.run.name == "plain"]
    table = rows.make(made, best)
    swept = make_found()
    content = contents.make(made, best, table, None, swept=swept)
    html = page.build(content, table, None, path, swept=swept).read_text()
    return path, tables.to_markdown(content), page_parser.Page(html, small=" | ")


def test_every_run_has_its_validation_score_and_what_became_of_it(written):
    _, markdown, shown = written
    rows_of_sweep = [line for line in markdown.splitlines() if line.startswith("| U-Net")]
    assert [tidy(line) for line in rows_of_sweep] == [
        "| U-Net, learning_rate 0.001, alpha 0.5 | 0.9000 | 4 | best, scored on the test split |",
        "| U-Net, learning_rate 0.0001, alpha 0.5 | 0.1000 | 1 | stopped after epoch 1 |",
        "| U-Net, learning_rate 0.0003, alpha 0.5 | 0.6000 | 1 | stopped after epoch 1 |",
        "| U-Net, learning_rate 0.003, alpha 0.5 | \N{EN DASH} | 1 | failed: loss is <nan> |",
    ]
    cells = [[tidy(cell) for cell in row] for row in shown.rows]
    for line in rows_of_sweep:
        assert [tidy(cell) for cell in line.strip("| ").split(" | ")] in cells


def test_the_page_says_all_that_the_markdown_says(written):
    path, markdown, shown = written
    told = [line.lstrip("- ") for line in markdown.splitlines() if line.startswith("- ")]
    swept = markdown.split("## Runs of the sweep")[1].split("## Runs\n")[0]
    told = [line.lstrip("- ") for line in swept.splitlines() if line.startswith("- ")]
    assert len(told) > 5
    for line in told:
        assert tidy(line) in tidy(shown.text)
    assert {"sweep.csv", "sweep.png"} <= set(shown.references)
    with Image.open(path / "sweep.png") as image:
        assert min(image.size) > 200


def test_it_says_what_was_saved_and_what_the_test_split_is_for(written):
    _, markdown, _ = written
    assert "after epoch 1, 1 of 4 runs went on" in markdown
    assert "trained 7 epochs together; all runs to the end would have been 16" in markdown
    assert "Only the best one is scored on the test split" in markdown


def test_few_runs_are_told_to_show_little():
    content = sweep_contents.make(make_found(), "mask", "test")
    assert content.label == "validation mean IoU after epoch 1"
    assert content.remarks[0].endswith(
        "nothing can be said, as among so few runs chance can explain as much."
    )
    assert any(
        text.startswith("With 4 runs, each trained once, a field") for text in content.remarks
    )


@pytest.mark.parametrize(
    ("key", "by_chance", "want"),
    [
        (
            "mean_iou",
            0.5,
            "That is beyond chance, which explains up to 50 %. Runs with 0.2 to 0.3 scored "
            "best; Spearman's correlation of value and quality is -0.90.",
        ),
        (
            "loss",
            0.5,
            "That is beyond chance, which explains up to 50 %. Runs with 0.1 scored best; "
            "Spearman's correlation of value and quality is -0.90.",
        ),
        ("loss", 0.9, "That may be chance, which explains up to 90 %."),
    ],
)
def test_a_field_that_mattered_is_told_with_its_best_value(key, by_chance, want):
    groups = (
        importance.Group((0.1,), 0.5, 2, 0),
        importance.Group((0.2, 0.3), 0.75, 2, 0),
        importance.Group((0.4,), None, 2, 2),
    )
    effect = importance.Effect("task.alpha", groups, 0.8, by_chance, -0.9)
    outcome = dataclasses.replace(make_found().outcomes[0], values={"task.alpha": 0.5})
    found = dataclasses.replace(make_found(), outcomes=(outcome,), effects=(effect,), key=key)
    remarks = sweep_contents.make(found, "mask", "test").remarks
    assert remarks[0] == f"`alpha` explains 80 % of the differences between runs. {want}"


def test_stopped_runs_are_hollow_and_failed_ones_crosses():
    found = make_found()
    axes = sweep_chart.field_chart(found, "validation mean IoU").axes[0]
    marks = {line.get_marker() for line in axes.lines}
    assert marks == {"o", "x"}
    circles = [line for line in axes.lines if line.get_marker() == "o"]
    fills = [line.get_markerfacecolor() for line in circles]
    theme = figures.LIGHT
    assert fills == [theme.second, theme.background, theme.background]
    assert [line.get_ydata()[0] for line in circles] == [0.45, 0.05, 0.3]


@pytest.mark.parametrize(
    ("rates", "scale"), [(np.geomspace(1e-4, 1e-2, 8), "log"), (np.linspace(0, 1, 8), "linear")]
)
def test_many_numbers_have_a_numeric_axis(rates, scale):
    runs = made_sweep.make_study().runs
    outcomes = tuple(
        sweep_results.Outcome(runs[0], {"a.rate": float(rate)}, 1, rate, rate, "trained", "")
        for rate in rates
    )
    effects = importance.measure([x.values for x in outcomes], [x.score for x in outcomes])
    found = sweep_results.SweepResults(outcomes, effects, (halving.Rung(1, 8),), "dice")
    axes = sweep_chart.field_chart(found, "validation Dice").axes[0]
    assert axes.get_xscale() == scale
    assert [line.get_xdata()[0] for line in axes.lines] == rates.tolist()
