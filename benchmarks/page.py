"""Results on a Markdown page: a block for each suite, in it a section for each kind of device."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

NOT_MEASURED = "On a GPU or TPU: **not measured.**"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One row of a table, or a text.

    Attributes:
        table: heading of the table that the row belongs to.
        cells: column -> text; rows of a table may lack some.
        numbers: the same for JSON, and more.
        text: Markdown in place of a row.
    """

    table: str
    cells: Mapping[str, str] = dataclasses.field(default_factory=dict)
    numbers: Any = None
    text: str = ""


def section(findings: Sequence[Finding]) -> str:
    """Markdown of one suite on one device: tables in the order of their first rows."""
    by_table: dict[str, list[Finding]] = {}
    for finding in findings:
        by_table.setdefault(finding.table, []).append(finding)
    return "\n\n".join(
        f"**{name}**\n\n" + "\n\n".join(_parts(rows)) for name, rows in by_table.items()
    )


def _parts(findings: Sequence[Finding]) -> list[str]:
    """Rows as one table, then texts as they are."""
    texts = [finding.text.strip() for finding in findings if finding.text]
    rows = [finding.cells for finding in findings if finding.cells]
    return ([_table(rows)] if rows else []) + texts


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    lines = [columns, ["---"] * len(columns)]
    lines += [[row.get(name, "").replace("|", "/") for name in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def update(page: str, suite: str, device: str, body: str, *, is_accelerator: bool) -> str:
    """The page with a section of one suite and device in the place of its last one.

    A block is `<!-- suite: NAME -->` to `<!-- end -->`, a section in it begins with
    `<!-- device: SLUG -->` (`<!-- accelerator: SLUG -->`). Other sections stay as they are; a block
    without an accelerator's says that there is none. A page without the block gets one at its end.

    Args:
        page: Markdown.
        suite: its name.
        device: kind and number of devices, see `machine.slug`.
        body: Markdown of the section.
        is_accelerator: whether it is no CPU.

    Raises:
        ValueError: a block without an end.
    """
    start = f"<!-- suite: {suite} -->"
    if start not in page:
        page = f"{page.rstrip()}\n\n## {suite}\n\n{start}\n<!-- end -->\n".lstrip()
    before, _, rest = page.partition(start)
    block, end, after = rest.partition("<!-- end -->")
    if not end or "<!-- suite:" in block:
        raise ValueError(f"the page: got {start!r} without an end, want '<!-- end -->' after it.")
    sections = _sections(block)
    # One kind of device has one place, first come first.
    sections[device] = ("accelerator" if is_accelerator else "device", body.strip())
    return before + start + _block(sections) + end + after


def _sections(block: str) -> dict[str, tuple[str, str]]:
    """Device -> "device" or "accelerator", and the section's Markdown."""
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
