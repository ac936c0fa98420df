"""Checks that a user's regular expressions don't take forever."""

import json
import subprocess
import sys
from collections.abc import Sequence

SECONDS = 10  # for all texts together; thousands of texts take a fraction of a second
# Runs in a process of its own, because a search that has begun can't be stopped in any thread.
_CHILD = """
import json, re, sys
method, pattern, texts = json.load(sys.stdin)
try:
    match = getattr(re.compile(pattern), method)
    for text in texts:
        match(text)
except (re.error, OverflowError, RecursionError) as error:
    sys.stdout.write(str(error) or type(error).__name__)
"""


def require_quick(pattern: str, texts: Sequence[str], field: str, method: str) -> None:
    """Raises ValueError unless a pattern matches or fails on all texts within `SECONDS`.

    Args:
        pattern: the regular expression to check.
        texts: all texts that it will be matched with.
        field: name of the config's field, for messages.
        method: name of the function that will be used, "search" or "fullmatch".

    Raises:
        ValueError: the pattern is no regular expression, or takes longer.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _CHILD],
            input=json.dumps([method, pattern, list(texts)]),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"{field}: got {pattern!r}, which takes more than {SECONDS} seconds for {len(texts)} "
            "names; want one without nested repetitions, such as (a+)+."
        ) from error
    if child.stdout:
        raise ValueError(f"{field}: got {pattern!r}, want a regular expression ({child.stdout}).")
