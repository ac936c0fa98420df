"""The words for the differences between the rows of a study, for Markdown and HTML."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jaxlung.report import glossary
from jaxlung.report import tables as report_tables
from jaxlung.study import comparison

LOWER_IS_BETTER = ("hd95", "asd", "mse", "mae", "loss", "loss_excess")


@dataclasses.dataclass(frozen=True)
class Section:
    """The section about differences; the text is not escaped.

    Attributes:
        comparison: The differences.
        labels: Score -> its name with its unit and, for errors, that lower is better.
        table: A block per score with a row per pair; None if nothing could be compared.
        sentences: How to read the table, and what isn't compared; `code` in backticks.
        chart: Alternative text of the chart.
    """

    comparison: comparison.Comparison
    labels: dict[str, str]
    table: report_tables.Table | None
    sentences: list[str]
    chart: str


def make(compared: comparison.Comparison, labels: Mapping[str, str], task: str) -> Section:
    """Returns the text of a comparison.

    Args:
        compared: The differences.
        labels: Score -> its name with its unit.
        task: Name of the task.
    """
    found = compared.differences
    shown = {
        key: f"{label} (lower is better)" if key in LOWER_IS_BETTER else label
        for key, label in labels.items()
        if any(each.key == key for each in found)
    }
    how = _describe_reading(found, labels, task) if found else []
    if found and compared.reference:
        how.append(f"Each row is compared with {compared.reference} alone.")
    if found and any(row.num_runs > 1 for row in compared.rows):
        how.append("Runs of a group are averaged for each image before they are compared.")
    return Section(
        comparison=compared,
        labels=shown,
        table=_tabulate(found, shown) if found else None,
        sentences=[*how, *_describe_left_out(compared, labels, task)],
        chart=_describe_chart(found, shown),
    )


def name_pair(each: comparison.Difference) -> str:
    """Returns the name of a row of the table and of the chart."""
    return f"{each.first} against {each.second}"


def format_p(p: float) -> str:
    """Returns a p-value with three decimals; "< 0.001" below, an en dash for NaN."""
    if math.isnan(p):
        return "\N{EN DASH}"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _tabulate(
    found: Sequence[comparison.Difference], labels: Mapping[str, str]
) -> report_tables.Table:
    columns = [
        report_tables.Column("Difference", "95 % interval"),
        report_tables.Column("p", "adjusted" if any(each.num_pairs > 1 for each in found) else ""),
        report_tables.Column("Verdict"),
    ]
    blocks = [
        report_tables.Block(label, [_row(each) for each in found if each.key == key])
        for key, label in labels.items()
    ]
    return report_tables.Table(columns, blocks)


def _row(each: comparison.Difference) -> report_tables.Row:
    ends = [glossary.format_difference(each.key, end) for end in each.interval]
    parts = ["" if any(map(math.isnan, each.interval)) else " to ".join(ends)]
    parts.append(f"n = {each.num_images:,}" if each.num_undefined else "")
    note = ", ".join(filter(None, parts))
    return report_tables.Row(
        name_pair(each),
        [
            report_tables.Cell(glossary.format_difference(each.key, each.value), note),
            report_tables.Cell(format_p(each.p_adjusted)),
            report_tables.Cell(each.verdict or "\N{EN DASH}"),
        ],
    )


def _describe_reading(
    found: Sequence[comparison.Difference], labels: Mapping[str, str], task: str
) -> list[str]:
    """Returns what the table and the figure mean, and what they don't."""
    counts = {each.num_images + each.num_undefined for each in found}
    images = glossary.reword("images", task)
    if len(counts) == 1:
        images = glossary.count(counts.pop(), "image", task)
    left_out = any(each.num_undefined for each in found)
    return [
        f"A difference is the score of the first run minus that of the second on the same {images}."
        + (" Those without the score in either run are left out of both." if left_out else ""),
        "The interval is from a jackknife over patients, each left out of both runs together. It "
        "is about its own pair alone, so it may exclude 0 where the verdict does not go so far.",
        *_describe_tests(found, labels, glossary.reword("images", task)),
        f"{comparison.BEYOND.capitalize()} (filled points in the figure): p is at most "
        f"{comparison.LEVEL}. If all runs were equally good, at most "
        f"{100 * comparison.LEVEL:.0f} of 100 such studies would call any difference in a score "
        "beyond chance.",
        f"{comparison.WITHIN.capitalize()} doesn't mean equally good. It means that these patients "
        "can't tell which run is better. The interval shows how large the difference may still be.",
        *_describe_few(found),
        "p takes no account of the number of scores. Whoever looks at many will too often find one "
        "that is beyond chance, so choose the score before you look.",
        "Intervals and p are about other patients, not about training again. Runs that differ in "
        "the seed alone may differ beyond chance. Before you call one setting better than another, "
        "train both with several seeds.",
    ]


def _describe_tests(
    found: Sequence[comparison.Difference], labels: Mapping[str, str], images: str
) -> list[str]:
    """Returns which tests give p, and how it is adjusted."""
    sentences = []
    if any(each.is_mean for each in found):
        sentences.append(
            "p is from a paired permutation test. The two runs change places for some patients and "
            "not for others; p is the share of all such changes with a difference as large."
        )
    pooled = dict.fromkeys(labels[each.key] for each in found if not each.is_mean)
    if pooled:
        sentences.append(
            f"{'; '.join(pooled)}: no mean over {images}, so p is from Student's t with the "
            "jackknife's standard error."
        )
    pairs = max(each.num_pairs for each in found)
    if pairs > 1:
        sentences.append(f"p is adjusted for the {pairs} pairs of each score by Holm's method.")
    return sentences


def _describe_few(found: Sequence[comparison.Difference]) -> list[str]:
    """Returns why differences of too few patients can't be beyond chance, if there are any."""
    few = [each for each in found if each.verdict == comparison.TOO_FEW and each.num_people > 1]
    sentences = []
    if few:
        each = max(few, key=lambda each: each.num_people)
        lowest = min(1.0, each.num_pairs * each.smallest_p)
        wanted = math.ceil(1 + math.log2(each.num_pairs / comparison.LEVEL))
        pairs = f"{each.num_pairs} pairs" if each.num_pairs > 1 else "one pair"
        sentences.append(
            f"{comparison.TOO_FEW.capitalize()}: with {each.num_people} patients and {pairs}, p "
            f"can't be below {lowest:.2g}, even if one run is better for every patient. It takes "
            f"{wanted} patients."
        )
    if any(each.num_people < 2 for each in found):
        sentences.append("Without two patients or more there is neither an interval nor p.")
    return sentences


def _describe_left_out(
    compared: comparison.Comparison, labels: Mapping[str, str], task: str
) -> list[str]:
    """Returns which pairs and which scores aren't compared, and why."""
    images = glossary.reword("images", task)
    sentences = [
        f"{one} against {other}: not compared, as they are not tested on the same {images}."
        for one, other in compared.unpaired
    ]
    sentences += [
        f"{label}: not compared, as there are no scores of single {images}."
        for label in compared.untold
    ]
    num_rows = len(compared.rows) - len(compared.untold)
    whole = [labels[key] for key, who in compared.lacking.items() if 0 < len(who) == num_rows]
    if whole:
        listed = "; ".join(whole)
        sentences.append(
            f"Not compared, as they don't follow from the scores of single {images}: {listed}."
        )
    sentences += [
        f"{labels[key]}: not compared for {'; '.join(who)}, whose scores of single {images} "
        "don't give it."
        for key, who in compared.lacking.items()
        if 0 < len(who) < num_rows
    ]
    return sentences


def _describe_chart(found: Sequence[comparison.Difference], labels: Mapping[str, str]) -> str:
    """Returns the differences beyond chance, as the chart's alternative text."""
    beyond = [each for each in found if each.verdict == comparison.BEYOND]
    text = "Differences between the runs with 95 % intervals, and a line at 0."
    if not beyond:
        return f"{text} None is beyond chance."
    parts = [
        f"{labels[each.key]}: {name_pair(each)} {glossary.format_difference(each.key, each.value)}"
        for each in beyond
    ]
    return f"{text} Beyond chance: {'; '.join(parts)}."
