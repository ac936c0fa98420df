"""A config's training step in PyTorch, and the check that it equals jaxlung's."""

import itertools
import time
from typing import Any

import numpy as np
import torch

from benchmarks.peers import flax_weights, torch_data, torch_networks, torch_tasks


class Training:
    """The training steps of a config's sections, ready to be timed.

    Args:
        sections: sections of jaxlung's config, as plain values.
        network: "": the config's network; or a name for `torch_networks.make_network`.
        words: some of "channels_last", "compile", "graphs" (compile with CUDA graphs) and
            "autocast" (bfloat16); without any, PyTorch runs eagerly in float32.
        source: "memory": tensors on the device; "loader": a DataLoader.
        device: device to train on.
    """

    def __init__(
        self,
        sections: dict[str, Any],
        network: str,
        words: list[str],
        source: str,
        device: torch.device,
    ) -> None:
        self.sections, self.words, self.device = sections, words, device
        model = torch_networks.make_network(sections["model_name"], sections["model"], network)
        self.model = model.to(device).train()
        self.is_volumetric = "patch_size" in sections["data"]
        if "channels_last" in words:
            self.model.to(memory_format=self._memory_format)
        settings = sections["optimizer"]
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=settings["learning_rate"],
            betas=(settings["b1"], settings["b2"]),
            eps=settings["eps"],
            weight_decay=settings["weight_decay"],
            fused=True,  # PyTorch's fastest form.
        )
        self._loss = self.loss
        if "graphs" in words or "compile" in words:
            kind = "reduce-overhead" if "graphs" in words else "default"
            self._loss = torch.compile(self.loss, mode=kind)
        self._batches = torch_data.make_batches(sections["data"], source, device)

    def outputs(self, images: torch.Tensor, masks: torch.Tensor) -> Any:
        """Returns the logits of a batch as stored."""
        x = torch_tasks.scale(images, self.sections.get("window_hu"))
        x = torch_tasks.inputs(x, masks, self.sections["task"])
        if "channels_last" in self.words:
            x = x.contiguous(memory_format=self._memory_format)
        cast = torch.autocast(self.device.type, torch.bfloat16, enabled="autocast" in self.words)
        with cast:
            return self.model(x)

    def loss(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Returns the mean loss of a batch as stored, []."""
        outputs = self.outputs(images, masks)
        task = self.sections["task"]
        outputs = [x.float() for x in (outputs if isinstance(outputs, list) else [outputs])]
        wanted = torch_tasks.targets(masks, task)
        return torch_tasks.loss(outputs, wanted, task)

    def step(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Runs one update; returns the loss before it, still on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(images, masks)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def run(self, num_steps: int) -> dict[str, Any]:
        """Runs `num_steps` and waits for the device."""
        self.synchronize()
        start = time.perf_counter()
        for images, masks in itertools.islice(self._batches, num_steps):
            self.step(images, masks)
        self.synchronize()
        return {"seconds": time.perf_counter() - start, "steps": num_steps}

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @property
    def num_parameters(self) -> int:
        """Returns the number of trained parameters."""
        return sum(x.numel() for x in self.model.parameters())

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last_3d if self.is_volumetric else torch.channels_last


def check(training: Training, path: str, num_steps: int) -> dict[str, Any]:
    """Reads the network and the batch that `jax_worker.check` wrote, and trains as it does.

    Returns:
        "losses" and "grad_norm" as from `jax_worker.check`; "logits_difference", the largest one,
        and "logits_largest"; "parameters".
    """
    with np.load(path) as file:
        prefix = "weights/"
        weights = {k.removeprefix(prefix): file[k] for k in file if k.startswith(prefix)}
        images, masks = (torch.from_numpy(file[k]).to(training.device) for k in ("images", "masks"))
        want = file["logits"]
    flax_weights.copy(weights, training.model)
    with torch.no_grad():
        outputs = training.outputs(images, masks)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    got = np.stack([x[:, 0].float().cpu().numpy() for x in outputs])
    losses = [float(training.step(images, masks))]
    grad_norm = torch.nn.utils.get_total_norm([x.grad for x in training.model.parameters()])
    losses += [float(training.step(images, masks)) for _ in range(num_steps - 1)]
    return {
        "losses": losses,
        "grad_norm": float(grad_norm),
        "logits_difference": float(np.abs(got - want).max()),
        "logits_largest": float(np.abs(want).max()),
        "parameters": training.num_parameters,
    }
