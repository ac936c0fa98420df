"""Facts about a run on CT volumes that runs on X-rays do not have."""

from collections.abc import Mapping, Sequence
from typing import Any

_REGIONS = {"lung": "the CT inside the lung mask, 0 outside", "full": "the whole CT"}


def list_facts(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns label -> text, without facts whose fields the config lacks.

    Args:
        config: Config of a run on volumes, with one level of sections.
    """
    data, task = config.get("data", {}), config.get("task", {})
    facts = {}
    if "patch_size" in data:
        facts["Patches"] = _describe_patches(data)
    if "spacing_mm" in data:
        facts["Spacing"] = _describe_spacing(data["spacing_mm"])
    if "window_hu" in config:
        low, high = config["window_hu"]
        facts["Window"] = f"{low:g} to {high:g} HU"
    if "region" in task:
        facts["Visible to the network"] = _REGIONS.get(task["region"], task["region"])
    if "attention" in config.get("model", {}):
        facts["Parts of the network"] = _describe_parts(config["model"])
    if "inference" in config:
        facts["Inference on whole volumes"] = _describe_inference(config["inference"])
    return facts


def _describe_patches(data: Mapping[str, Any]) -> str:
    text = f"{_times(data['patch_size'])} voxels (slices, rows, columns)"
    if "patches_per_volume" in data:
        text += f", {data['patches_per_volume']} per volume and epoch"
    if "foreground_fraction" in data:
        share, target = data["foreground_fraction"], data.get("foreground", "foreground")
        text += f", {100 * share:g} % of them centred on {target}"
    return text


def _describe_spacing(spacing_mm: Sequence[float]) -> str:
    if not any(spacing_mm):
        return "as scanned"
    text = " x ".join(f"{mm:g}" if mm else "as scanned" for mm in spacing_mm)
    return f"{text} mm (slices, rows, columns)"


def _describe_parts(model: Mapping[str, Any]) -> str:
    attention = model["attention"]
    parts = [] if attention == "none" else [f"FV blocks with {attention.upper()} attention"]
    parts += ["PASPP"] if model.get("paspp") else []
    parts += ["deep supervision"] if model.get("deep_supervision") else []
    return ", ".join(parts) or "no FV blocks, PASPP or deep supervision"


def _describe_inference(inference: Mapping[str, Any]) -> str:
    parts = [f"windows overlap by {100 * inference['overlap']:g} %"]
    if inference.get("mirror"):
        parts.append("outputs averaged over mirrored copies")
    if largest := inference.get("keep_largest"):
        parts.append(
            f"only the {largest} largest connected parts kept"
            if largest > 1
            else "only the largest connected part kept"
        )
    if inference.get("inside_lungs"):
        parts.append("nothing predicted outside the annotated lungs")
    return "; ".join(parts)


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
