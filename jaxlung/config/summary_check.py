"""Checks that a `summary_<split>.json` has the fields and types that the report needs."""

import math
from collections.abc import Mapping
from typing import Any

_NUMBER = (int, float)
_NUMBER_OR_NONE = (*_NUMBER, type(None))
_KINDS: dict[str, Any] = {
    "split": str,
    "num_images": int,
    "num_patients": int,
    "step": int,
    "weights_digest": str,
    "task": str,
    "levels": list,
    "scores": dict,
    "intervals": dict,
    "sd": dict,
    "by_group": dict,
    "baselines": dict,
    "paper": dict,
    "threshold": _NUMBER_OR_NONE,
    "temperature": _NUMBER_OR_NONE,
    "thresholds": dict,
    "roc": dict,
    "calibration": dict,
    "calibration_before": dict,
    "by_size": dict,
    "confusion": list,
    "undefined": dict,
}
_CURVES = {
    "thresholds": ("thresholds", "dice", "iou"),
    "roc": ("thresholds", "fpr", "tpr"),
    "calibration": ("counts", "mean_prob", "fraction"),
    "calibration_before": ("counts", "mean_prob", "fraction"),
}
# Single numbers beside the curves, each with an interval.
_NUMBERS_OF_CURVES = {
    "roc": ("auc",),
    "calibration": ("ece", "ace"),
    "calibration_before": ("ece", "ace"),
}
_FOUND = {"num_images": int, "num_nothing_found": int}


def check(content: Mapping[str, Any]) -> None:
    """Raises ValueError unless the content of a summary is as the report needs it.

    The message says which field is wrong first; the caller adds the file's name.
    """
    missing = [name for name in _KINDS if name not in content]
    if missing:
        raise ValueError(f"want the fields {', '.join(_KINDS)}; lacks {', '.join(missing)}.")
    for name, kind in _KINDS.items():
        if not isinstance(content[name], kind):
            raise ValueError(f"{name}: want {_spell(kind)}, got {content[name]!r:.60}.")
    if len(content["levels"]) < 2 or not all(isinstance(x, str) for x in content["levels"]):
        raise ValueError(f"levels: want two names or more, got {content['levels']!r:.60}.")
    threshold = content["threshold"]
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold: want a number between 0 and 1, got {threshold}.")
    temperature = content["temperature"]
    if temperature is not None and not 0 < temperature < math.inf:
        raise ValueError(f"temperature: want a number above 0, got {temperature}.")
    _check_scores("", content)
    scored = {"scores": dict, "intervals": dict}
    for key, part in content["by_group"].items():
        _check_part(f"by_group.{key}", part, {"num_images": int} | scored)
    for key, part in content["baselines"].items():
        _check_part(f"baselines.{key}", part, {"description": str} | scored)
    _check_numbers("sd", content["sd"])
    _check_paper(content["paper"])
    _check_numbers("undefined", content["undefined"])
    for name, columns in _CURVES.items():
        _check_curve(name, content[name], columns)
    for name, keys in _NUMBERS_OF_CURVES.items():
        for key in keys if content[name] else ():
            _check_part(name, content[name], {key: _NUMBER_OR_NONE, f"{key}_interval": list})
            _check_interval(f"{name}.{key}_interval", content[name][f"{key}_interval"])
    _check_sizes(content["by_size"])
    _check_confusion(content["confusion"], len(content["levels"]))


def _check_part(name: str, part: Any, wanted: Mapping[str, Any]) -> None:
    if not isinstance(part, dict):
        raise ValueError(f"{name}: want an object, got {part!r:.60}.")
    for key, kind in wanted.items():
        if key not in part:
            raise ValueError(f"{name}: want {', '.join(wanted)}; lacks {key}.")
        if not isinstance(part[key], kind):
            raise ValueError(f"{name}.{key}: want {_spell(kind)}, got {part[key]!r:.60}.")
    if "scores" in wanted:
        _check_scores(f"{name}.", part)
        _check_undefined(name, part.get("undefined", {}))  # Missing in the parts of older runs.


def _check_scores(prefix: str, part: Mapping[str, Any]) -> None:
    _check_numbers(f"{prefix}scores", part["scores"])
    for key, interval in part["intervals"].items():
        _check_interval(f"{prefix}intervals.{key}", interval)


def _check_numbers(name: str, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if not _is_number(value):
            raise ValueError(f"{name}.{key}: want a number or null, got {value!r:.60}.")


def _check_paper(paper: Mapping[str, Any]) -> None:
    ranges = {key: value for key, value in paper.items() if isinstance(value, list)}
    _check_numbers("paper", {key: paper[key] for key in paper.keys() - ranges.keys()})
    for key, value in ranges.items():
        _check_interval(f"paper.{key}", value)


def _check_undefined(name: str, counts: Any) -> None:
    if not isinstance(counts, dict):
        raise ValueError(f"{name}.undefined: want an object, got {counts!r:.60}.")
    _check_numbers(f"{name}.undefined", counts)


def _check_interval(name: str, interval: Any) -> None:
    is_pair = isinstance(interval, list) and len(interval) == 2
    if not (is_pair and all(map(_is_number, interval))):
        raise ValueError(f"{name}: want [low, high], got {interval!r:.60}.")


def _check_curve(name: str, curve: Mapping[str, Any], columns: tuple[str, ...]) -> None:
    if not curve:
        return
    _check_part(name, curve, dict.fromkeys(columns, list))
    lengths = [len(curve[column]) for column in columns]
    numbers = all(_is_number(value) for column in columns for value in curve[column])
    if len(set(lengths)) > 1 or not lengths[0] or not numbers:
        raise ValueError(
            f"{name}: want {', '.join(columns)} with equally many numbers, at least one; got"
            f" {', '.join(map(str, lengths))} values."
        )


def _check_sizes(by_size: Mapping[str, Any]) -> None:
    if not by_size:
        return
    _check_part("by_size", by_size, {"unit": str, "quartiles": list, "without": dict})
    _check_part("by_size.without", by_size["without"], _FOUND)
    if len(by_size["quartiles"]) != 4:
        raise ValueError(f"by_size.quartiles: want 4 objects, got {len(by_size['quartiles'])}.")
    wanted = _FOUND | {"range": list, "scores": dict, "intervals": dict}
    for number, part in enumerate(by_size["quartiles"]):
        _check_part(f"by_size.quartiles.{number}", part, wanted)
        _check_interval(f"by_size.quartiles.{number}.range", part["range"])


def _check_confusion(rows: list[Any], num_levels: int) -> None:
    lists = all(isinstance(row, list) and len(row) == num_levels for row in rows)
    counts = lists and all(isinstance(n, int) and n >= 0 for row in rows for n in row)
    if rows and not (len(rows) == num_levels and counts):
        raise ValueError(f"confusion: want {num_levels} x {num_levels} counts, got {rows!r:.60}.")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, _NUMBER) and not isinstance(value, bool))


def _spell(kind: Any) -> str:
    names = {str: "text", int: "a whole number", dict: "an object", list: "a list"}
    return names.get(kind, "a number or null")
