"""A config in words: what was trained, on what, and how long it took."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlung import progress
from jaxlung.report import tables

# A fact is left out if the config has no such field: not every task has a threshold.
_FACTS = (
    ("Data", "{data[name]}"),
    ("Images from", "{data[root]}"),
    ("Generated X-rays", "{data[phantom_images]}"),
    ("Image size", "{data[image_size]} by {data[image_size]} pixels (resize: {data[resize]})"),
    ("Network", "{model_name} with {model[widths]} channels, {model[dtype]}"),
    ("Task", "{task_name}"),
    ("Target", "{task[target]} where the output is above {task[threshold]}"),
    ("Training", "{epochs} epochs, {data[batch_size]} images a step, seed {seed}"),
    ("Checkpoint scored", "{selection}"),
    ("Learning rate", "{optimizer[learning_rate]}"),
    ("Weight decay", "{optimizer[weight_decay]}"),
)


def list_facts(config: Mapping[str, Any], metrics: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Label -> text of everything worth knowing before the scores.

    Args:
        config: of the run, one level of sections; fields may be missing.
        metrics: columns of `metrics.csv`, or {}.
    """
    fields = {key: _in_words(value) for key, value in config.items()}
    facts = {}
    for label, template in _FACTS:
        try:
            text = template.format_map(fields)
        except (KeyError, TypeError):
            continue
        if text not in ("", "0"):
            facts[label] = text
    if "augment" in config:
        facts["Augmentation"] = _describe_augment(config["augment"])
    return facts | _list_speed(metrics)


def is_phantom(config: Mapping[str, Any]) -> bool:
    """Whether the run saw generated X-rays, so that its scores say nothing about patients."""
    return config.get("data", {}).get("phantom_images", 0) > 0


def _in_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_words(each) for key, each in value.items()}
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return value


def _describe_augment(augment: Mapping[str, Any]) -> str:
    neutral = (0, [1, 1])  # Nothing added; a zoom by 1.
    used = {name: value for name, value in augment.items() if value not in neutral}
    return ", ".join(f"{tables.spell(k)} {_in_words(v)}" for k, v in used.items()) or "none"


def _list_speed(metrics: Mapping[str, np.ndarray]) -> dict[str, str]:
    if not metrics:
        return {}
    seconds, speed = metrics["seconds"], metrics["images_per_s"]
    facts = {"Training time": progress.duration(float(np.nansum(seconds)))}
    if np.isfinite(speed).any():
        facts["Speed"] = f"{np.nanmedian(speed):,.0f} images/s (median of epochs)"
    return facts
