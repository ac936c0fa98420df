"""The called side of `isolated.call`."""

import importlib
import json
import sys
from typing import Any

from benchmarks import isolated


def main(name: str, arguments: str) -> None:
    """Calls `module:function` with arguments in JSON; prints the result as the last line."""
    module, _, function = name.partition(":")
    try:
        answer = {"result": getattr(importlib.import_module(module), function)(**read(arguments))}
    except Exception as error:  # Any error is a row of the table.
        reason = next(iter(str(error).splitlines()), "")
        answer = {"error": f"{type(error).__name__}: {reason}"[: isolated.LONGEST_REASON]}
    print("\n" + json.dumps(answer), flush=True)


def read(arguments: str) -> dict[str, Any]:
    """Returns the arguments of a function from their JSON."""
    return {name: freeze(value) for name, value in json.loads(arguments).items()}


def freeze(value: Any) -> Any:
    """Returns a value of JSON with tuples in place of lists, as configs have them."""
    if isinstance(value, dict):
        return {name: freeze(each) for name, each in value.items()}
    return tuple(map(freeze, value)) if isinstance(value, list) else value


if __name__ == "__main__":
    main(*sys.argv[1:])
