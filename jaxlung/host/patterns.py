"""Regular expressions of a user, which must not take for ever."""

import json
import subprocess
import sys
from collections.abc import Sequence

SECONDS = 10  # for all texts together; thousands take a fraction of one
# In a process of its own, because nothing else ends a search that has begun, in any thread.
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
    """Tries a pattern on all texts that it is for.

    Args:
        pattern: a regular expression, or what should be one.
        texts: that it will be matched with.
        field: of the config, for messages.
        method: how it is matched, "search" or "fullmatch".

    Raises:
        ValueError: the pattern is no regular expression, or isn't done after `SECONDS`.
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
            f"{field}: got {pattern!r}, which is not done with {len(texts)} names after "
            f"{SECONDS} seconds; want one without repetitions inside repetitions, such as (a+)+."
        ) from error
    if child.stdout:
        raise ValueError(f"{field}: got {pattern!r}, want a regular expression ({child.stdout}).")
