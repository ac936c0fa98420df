"""The Markdown page of results: a block for each suite, with a section for each kind of device."""

import dataclasses
import itertools
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

NOT_MEASURED = "On a GPU or TPU: **not measured.**"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One row of a table, or a text.

    Attributes:
        table: heading of the table that the row belongs to.
        cells: column -> text; a row may lack columns of its table.
        numbers: all numbers of the row, ready for JSON.
        text: Markdown; used instead of `cells`.
    """

    table: str
    cells: Mapping[str, str] = dataclasses.field(default_factory=dict)
    numbers: Any = None
    text: str = ""


def section(findings: Sequence[Finding]) -> str:
    """Returns the Markdown of one suite on one device: tables in the order of their first rows."""
    by_table: dict[str, list[Finding]] = {}
    for finding in findings:
        by_table.setdefault(finding.table, []).append(finding)
    return "\n\n".join(
        f"**{name}**\n\n" + "\n\n".join(_parts(rows)) for name, rows in by_table.items()
    )


def _parts(findings: Sequence[Finding]) -> list[str]:
    """Returns the rows as one table, then the texts."""
    texts = [finding.text.strip() for finding in findings if finding.text]
    rows = [finding.cells for finding in findings if finding.cells]
    return ([table(rows)] if rows else []) + texts


def unmeasured(table: str, error: Exception, subject: str = "") -> Finding:
    """Returns the text for a measurement that failed.

    Args:
        table: heading of the table that lacks it.
        error: the reason.
        subject: the name of what was to be measured, if the table has several.
    """
    text = f"{subject}: not measured: {error}" if subject else f"not measured: {error}"
    return Finding(table, text=text, numbers={"error": str(error)})


def spread(values: Sequence[float], spec: str) -> str:
    """Returns the median of repeats and, in brackets, the least and the most, by a format spec."""
    return with_range(statistics.median(values), min(values), max(values), spec)


def with_range(median: float, least: float, most: float, spec: str) -> str:
    """Returns a number with its range, such as "5.0 (4.0 to 6.0)", by a format spec."""
    return f"{median:{spec}} ({least:{spec}} to {most:{spec}})"


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns rows as a Markdown table; a column that a row lacks is empty there."""
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    lines = [columns, ["---"] * len(columns)]
    lines += [[row.get(name, "").replace("|", "/") for name in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def update(page: str, suite: str, device: str, body: str, *, is_accelerator: bool) -> str:
    """Returns the page with the section of one suite and device replaced.

    A block goes from `<!-- suite: NAME -->` to `<!-- end -->`. A section in it begins with
    `<!-- device: SLUG -->` or `<!-- accelerator: SLUG -->`. Other sections stay as they are. A
    block without an accelerator says so. A page without the block gets one at its end.

    Args:
        page: Markdown.
        suite: name of the suite.
        device: kind and number of devices, from `machine.slug`.
        body: Markdown of the section.
        is_accelerator: False for a CPU.

    Raises:
        ValueError: a block has no end.
    """
    start = f"<!-- suite: {suite} -->"
    if start not in page:
        page = f"{page.rstrip()}\n\n## {suite}\n\n{start}\n<!-- end -->\n".lstrip()
    before, _, rest = page.partition(start)
    block, end, after = rest.partition("<!-- end -->")
    if not end or "<!-- suite:" in block:
        raise ValueError(f"the page: got {start!r} without an end, want '<!-- end -->' after it.")
    sections = _sections(block)
    # Each kind of device keeps its place in the block.
    sections[device] = ("accelerator" if is_accelerator else "device", body.strip())
    return before + start + _block(sections) + end + after


def _sections(block: str) -> dict[str, tuple[str, str]]:
    """Returns device -> ("device" or "accelerator", Markdown of the section)."""
    parts = re.findall(
        r"<!-- (device|accelerator): (.+?) -->\n(.*?)(?=<!-- device|<!-- accelerator|\Z)",
        block,
        re.DOTALL,
    )
    return {device: (kind, body.replace(NOT_MEASURED, "").strip()) for kind, device, body in parts}


def _block(sections: Mapping[str, tuple[str, str]]) -> str:
    texts = [f"<!-- {kind}: {device} -->\n{body}" for device, (kind, body) in sections.items()]
    if not any(kind == "accelerator" for kind, _ in sections.values()):
        texts.append(NOT_MEASURED)
    return "\n" + "\n\n".join(texts) + "\n"
