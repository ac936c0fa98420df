"""Findings of a long benchmark, kept as they come: a line of JSON each, and a page made of them."""

import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Sequence

from benchmarks import goals, page

SILENT_S = 20  # seconds without a line after which one says what is going on


class Report:
    """Writes findings as they come: to stdout, to OUT/lines.jsonl and to OUT/accelerator.md.

    Args:
        out: folder.
        begin: `time.monotonic()` at the start.
    """

    def __init__(self, out: pathlib.Path, begin: float) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._out, self._begin, self._last = out, begin, begin
        self.doing = ""
        self.findings = read(out)

    def add(self, finding: page.Finding) -> None:
        """Adds a finding."""
        self.findings.append(finding)
        with (self._out / "lines.jsonl").open("a") as file:
            file.write(json.dumps(dataclasses.asdict(finding)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.say(
            ", ".join(f"{k} {v}" if k else v for k, v in finding.cells.items() if v) or finding.text
        )
        write_page(self._out, self.findings)

    def say(self, text: str) -> None:
        """Writes a line to stdout, with the time."""
        self._last = time.monotonic()
        print(f"{self._last - self._begin:5.0f} s  {text}", flush=True)

    def begin(self, text: str) -> None:
        """Says what is done next."""
        self.doing = text
        self.say(f"{text} ...")

    def watch(self) -> None:
        """Says what is going on whenever nothing was said for `SILENT_S`; never ends."""
        while True:
            time.sleep(1)
            if time.monotonic() - self._last > SILENT_S:
                self.say(f"still {self.doing}")


def read(out: pathlib.Path) -> list[page.Finding]:
    """Returns the findings in OUT/lines.jsonl; half a line at its end, after a kill, is dropped."""
    path = out / "lines.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    findings = []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):
            findings.append(page.Finding(**json.loads(line)))
    return findings


def write_page(out: pathlib.Path, findings: Sequence[page.Finding]) -> None:
    """Writes OUT/accelerator.md, whole or not at all."""
    text = page.section([*findings, *goals.find(findings)])
    new = out / "accelerator.md.new"
    new.write_text(f"# An accelerator in a quarter of an hour\n\n{text}\n")
    new.replace(out / "accelerator.md")
