"""Scaling, inputs, targets and losses as in jaxlung, in PyTorch and on the device."""

from typing import Any

import torch
import torch.nn.functional as F

LUNG, INFECTION = 1, 2  # Bits of `jaxlung.data.record`.


def scale(images: torch.Tensor, window_hu: tuple[float, float] | None) -> torch.Tensor:
    """Scales stored images for the network, as `jaxlung.data.transforms.preprocess` does.

    Args:
        images: [B, H, W] uint8, or [B, D, H, W] int16 HU.
        window_hu: HU that become 0 and 1, for volumes; None for images, which are scaled by their
            own range.

    Returns:
        [B, 1, ...] float32 in [0, 1].
    """
    x = images.float()[:, None]
    if window_hu is not None:
        low, high = window_hu
        return ((x - low) / (high - low)).clamp(0, 1)
    low, high = x.amin(dim=(1, 2, 3), keepdim=True), x.amax(dim=(1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=1)


def targets(masks: torch.Tensor, task: dict[str, Any]) -> torch.Tensor:
    """Converts packed masks [B, ...] uint8 to targets [B, 1, ...] float32 of a `task` section.

    A section with a `target` asks for that mask; one without, for lungs and infection in one map.
    """
    if "target" not in task:
        lung, infection = (masks & LUNG) != 0, (masks & INFECTION) != 0
        greys = torch.where(infection, 255.0, torch.where(lung, 125.0, 0.0))
        return (greys / 255)[:, None]
    bit = {"lung": LUNG, "infection": INFECTION}[task["target"]]
    return ((masks & bit) != 0).float()[:, None]


def inputs(x: torch.Tensor, masks: torch.Tensor, task: dict[str, Any]) -> torch.Tensor:
    """Returns the network's input: x, or with `region` "lung" only what is inside the lungs."""
    if task.get("region") != "lung":
        return x
    return torch.where(((masks & LUNG) != 0)[:, None], x, 0.0)


def loss(
    outputs: torch.Tensor | list[torch.Tensor], wanted: torch.Tensor, task: dict[str, Any]
) -> torch.Tensor:
    """Returns the mean loss of a batch, []; of several logits, the first counts half."""
    if isinstance(outputs, torch.Tensor):
        outputs = [outputs]
    final, *others = (_loss(logits, wanted, task) for logits in outputs)
    return 0.5 * final + 0.5 * sum(others) / len(others) if others else final


def _loss(logits: torch.Tensor, wanted: torch.Tensor, task: dict[str, Any]) -> torch.Tensor:
    """Returns the binary cross-entropy, or "bce_dice" of Lin and Huang (`jaxlung.losses`)."""
    bce = F.binary_cross_entropy_with_logits(logits, wanted)
    if task.get("loss", "bce") == "bce":
        return bce
    if task["loss"] != "bce_dice":
        raise ValueError(f"peers: got loss {task['loss']!r}, want one of bce, bce_dice.")
    probs = torch.sigmoid(logits)
    axes = tuple(range(1, logits.ndim))
    overlap, total = (probs * wanted).sum(axes), (probs + wanted).sum(axes)
    dice = 1 - (2 * overlap + 1) / (total + 1)
    return task["alpha"] * bce + dice.mean()
