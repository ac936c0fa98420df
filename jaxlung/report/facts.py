"""The config in words: what was trained, on which data, and for how long."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlung.host import progress
from jaxlung.report import glossary, tables, volume_facts
from jaxlung.tasks import words

# A fact is left out if the config lacks one of its fields: not every task has a target.
_FACTS = (
    ("Data", "{data[name]}"),
    ("Images from", "{data[root]}"),
    ("Generated X-rays", "{data[phantom_images]}"),
    ("Image size", "{data[image_size]} by {data[image_size]} pixels (resize: {data[resize]})"),
    ("Visible to the network", "{task[lungs]}"),
    ("Cropped from the X-ray", "{task[crop_pixels]} pixels (top, left, right)"),
    ("Network", "{model_name}, {model[dtype]}"),
    ("Network", "{model_name} with {model[widths]} channels, {model[dtype]}"),
    ("Initialised from", "{init_from}"),
    ("Frozen parameters", "{freeze}"),
    ("Task", "{task_name}"),
    ("Target", "{task[target]}"),
    ("Loss", "{task[loss]}"),
    ("Cross-validation", "{fold}"),
    ("Training", "{epochs} epochs, {data[batch_size]} {examples} per step, seed {seed}"),
    ("Checkpoint scored", "{selection}"),
    ("Optimizer", "{optimizer[name]}"),
    ("Learning rate", "{optimizer[learning_rate]}"),
    ("Schedule", "{optimizer[schedule]}"),
    ("Weight decay", "{optimizer[weight_decay]}"),
    ("Gradients clipped to", "{optimizer[clip_norm]}"),
    ("Network scored", "{optimizer[average_decay]}"),
)
_LUNGS = {
    "none": "the whole X-ray",
    "predicted": "the lungs that a lung network finds",
    "true": "the annotated lungs",
}
_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD with Nesterov momentum"}
_SELECTIONS = {
    "best": "the one with the lowest validation loss",
    "best_score": "the one with the highest validation score",
    "last": "the last",
}


def list_facts(
    config: Mapping[str, Any],
    metrics: Mapping[str, np.ndarray],
    threshold: float | None = None,
    temperature: float | None = None,
) -> dict[str, str]:
    """Returns label -> text of what a reader should know before the scores.

    Args:
        config: Config of the run, with one level of sections; fields may be missing.
        metrics: Columns of `metrics.csv`, or {}.
        threshold: Outputs above it are foreground; None if there is none.
        temperature: Logits are divided by it; None if there is none.
    """
    fields = {key: _in_words(value) for key, value in config.items()}
    fields |= _reword(config)
    task = config.get("task_name", "")
    facts = {}
    for label, template in _FACTS:
        try:
            text = template.format_map(fields)
        except (KeyError, TypeError):
            continue
        if text not in ("", "0", "0.0"):
            facts[glossary.reword(label, task)] = text
    if words.find(task).is_volumetric:
        facts |= volume_facts.list_facts(config)
    if threshold is not None:
        facts["Threshold"] = f"{threshold:.4g}, {find_origin(config)}"
    if temperature is not None:
        fitted = "fitted to the validation split"
        undetermined = "as the validation split determines no other"
        facts["Temperature"] = f"{temperature:.4g}, {undetermined if temperature == 1 else fitted}"
    facts |= _describe_control(config.get("control", {}), metrics)
    if "augment" in config:
        facts["Augmentation"] = _describe_augment(config["augment"])
    return facts | _list_speed(metrics, fields["examples"])


def is_phantom(config: Mapping[str, Any]) -> bool:
    """Returns whether the run used generated images, so that its scores say nothing of patients."""
    return config.get("data", {}).get("phantom_images", 0) > 0


def find_paper_note(config: Mapping[str, Any]) -> str:
    """Returns the config's remark on the published scores; "" for none, as in older runs."""
    return config.get("paper", {}).get("note", "")


def find_origin(config: Mapping[str, Any]) -> str:
    """Returns "set in the config" or "chosen on the validation split", for the threshold."""
    threshold = config.get("task", {}).get("threshold")
    is_set = isinstance(threshold, int | float) and threshold > 0
    return "set in the config" if is_set else "chosen on the validation split"


def name_loss(config: Mapping[str, Any]) -> str:
    """Returns the loss function in words; "" if the config names none."""
    task = config.get("task", {})
    loss = task.get("loss", "")
    if loss == "bce_iou" and "alpha" in task:
        alpha = task["alpha"]
        return f"{alpha:.3g} cross-entropy + {1 - alpha:.3g} (1 - soft IoU)"
    if loss == "bce_dice" and "alpha" in task:
        return f"{task['alpha']:.3g} cross-entropy + Dice loss"
    if loss == "focal" and "alpha" in task:
        return f"focal loss, foreground weighted {task['alpha']:.3g}"
    if loss == "tversky" and "alpha" in task:
        return f"Tversky loss, false positives weighted {task['alpha']:.3g}"
    plain = {"bce": "binary cross-entropy", "iou": "1 - soft IoU", "dice": "Dice loss"}
    return plain.get(loss, loss)


def _reword(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields whose values are replaced by words."""
    found = words.find(config.get("task_name", ""))
    fields: dict[str, Any] = {"examples": "patches" if found.example == "patch" else "images"}
    if "task" in config:
        task = _in_words(config["task"]) | {"loss": name_loss(config)}
        if "lungs" in task:
            task["lungs"] = _LUNGS.get(task["lungs"], task["lungs"])
        fields["task"] = task
    if "schedule" in config.get("optimizer", {}):
        fields["optimizer"] = _in_words(config["optimizer"]) | _describe_optimizer(
            config["optimizer"]
        )
    if (data := config.get("data", {})).get("folds"):
        fields["fold"] = f"fold {data['fold']} of {data['folds']}, counted from 0"
    if "selection" in config:
        fields["selection"] = _SELECTIONS.get(config["selection"], config["selection"])
        if config["selection"] == "best_score" and found.is_volumetric:
            fields["selection"] = "the one with the highest validation Dice"
    if config.get("control", {}).get("stop_patience") and "epochs" in config:
        fields["epochs"] = f"at most {config['epochs']}"
    return fields


def _describe_optimizer(optimizer: Mapping[str, Any]) -> dict[str, str]:
    """Returns the fields of an optimizer that are replaced by words; "" for what isn't used."""
    warmup, decay = optimizer["warmup_fraction"], optimizer["average_decay"]
    rise = f", rising over the first {100 * warmup:.3g} % of the run" if warmup else ""
    steps = f"the average over about {1 / (1 - decay):.0f} steps" if decay else ""
    schedule = optimizer["schedule"].replace("_", " ")
    return {
        "name": _OPTIMIZERS.get(optimizer["name"], optimizer["name"]),
        "schedule": "" if schedule == "constant" and not warmup else f"{schedule}{rise}",
        "average_decay": steps,
    }


def _describe_control(
    control: Mapping[str, Any], metrics: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """Returns when the learning rate is reduced, and when training stops early."""
    facts = {}
    if control.get("plateau_patience"):
        facts["Learning rate reduced"] = (
            f"multiplied by {control['plateau_factor']:g} if the validation loss has not fallen by"
            f" more than {control['plateau_min_delta']:g} for"
            f" {_epochs(control['plateau_patience'])}, with a cooldown of"
            f" {_epochs(control['plateau_cooldown'])}; never below {control['min_learning_rate']:g}"
        )
    if control.get("stop_patience"):
        text = "if the validation loss has not fallen"
        if control["stop_min_delta"]:
            text += f" by more than {control['stop_min_delta']:g}"
        text += f" for {_epochs(control['stop_patience'])}"
        if metrics:
            text += f"; this run trained for {_epochs(int(metrics['epoch'][-1]))}"
        facts["Early stopping"] = text
    return facts


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def _in_words(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_words(each) for key, each in value.items()}
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return value


def _describe_augment(augment: Mapping[str, Any]) -> str:
    neutral = (0, [0, 0, 0], [1, 1])  # Nothing added along any axis; a zoom by 1.
    used = {name: value for name, value in augment.items() if value not in neutral}
    return ", ".join(f"{tables.spell(k)} {_describe_value(v)}" for k, v in used.items()) or "none"


def _describe_value(value: Any) -> str:
    is_by_axis = isinstance(value, list) and len(value) == 3
    return (
        f"{' / '.join(map(str, value))} (slices / rows / columns)"
        if is_by_axis
        else _in_words(value)
    )


def _list_speed(metrics: Mapping[str, np.ndarray], examples: str) -> dict[str, str]:
    if not metrics:
        return {}
    seconds, speed = metrics["seconds"], metrics["images_per_s"]
    facts = {"Training time": progress.duration(float(np.nansum(seconds)))}
    if np.isfinite(speed).any():
        facts["Speed"] = f"{np.nanmedian(speed):,.0f} {examples}/s (median of epochs)"
    return facts
