"""Logs the progress of long work: nothing if it is short, a line every 15 seconds if not."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from absl import logging

from jaxlung.host import progress_file

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 15.0


def report(items: Iterable[T], what: str, unit: str, total: int) -> Iterator[T]:
    """Yields `items`, logs every 15 seconds how many are done, and tells `progress_file`.

    Args:
        items: the work, one item per unit.
        what: start of the line, such as "reading train".
        unit: name of the units in the plural, such as "images".
        total: number of items in all.
    """
    start = last = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        progress_file.tell(detail=f"{what}: {count} of {total} {unit}")
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            rate = count / (now - start)
            left = duration((total - count) / rate)
            logging.info("%s: %d of %d %s, %.3g/s, %s left", what, count, total, unit, rate, left)
    progress_file.tell(detail="")


def duration(seconds: float) -> str:
    """Returns a duration as text: "42 s", "3 min 5 s", "2 h 10 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
