"""jaxlung's networks in PyTorch, made from the same `model` sections, and MONAI's U-Nets.

They use PyTorch's own pooling, transposed convolutions and up-sampling. Every network maps
[B, 1, ...] float32 to float32 logits [B, num_classes, ...]; `FvPasppUNet` returns a list of these.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import torch_layers as layers


class UNet(nn.Module):
    """The U-Net of Nguyen Xuan Minh Vu, `jaxlung.models.unet.UNet`."""

    def __init__(self, widths: Sequence[int], num_classes: int, head_norm: bool) -> None:
        super().__init__()
        self.depth = len(widths) - 1
        for level, (channels, features) in enumerate(itertools.pairwise([1, *widths[:-1]])):
            self.add_module(f"encoder_{level}", layers.DoubleConv(channels, features))
        self.bottleneck = layers.DoubleConv(widths[-2], widths[-1])
        for level, (features, below) in enumerate(itertools.pairwise(widths)):
            self.add_module(f"up_{level}", nn.ConvTranspose2d(below, features, 2, stride=2))
            self.add_module(f"decoder_{level}", layers.DoubleConv(2 * features, features))
        self.head = nn.Conv2d(widths[0], num_classes, 1, bias=not head_norm)
        self.head_norm = nn.BatchNorm2d(num_classes) if head_norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, 1, H, W] to logits."""
        skips = []
        for level in range(self.depth):
            skips.append(getattr(self, f"encoder_{level}")(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottleneck(x)
        for level in reversed(range(self.depth)):
            up = getattr(self, f"up_{level}")(x)
            x = getattr(self, f"decoder_{level}")(torch.cat([skips[level], up], dim=1))
        return self.head_norm(self.head(x).float())


class SlimUNet(nn.Module):
    """The slim U-Net of Bartels et al., `jaxlung.models.slim_unet.SlimUNet`."""

    def __init__(self, num_classes: int, noise_std: float, leaky_slope: float, border: int) -> None:
        super().__init__()
        self.noise_std, self.border = noise_std, border
        self.encoder = SlimEncoder(leaky_slope)
        self.decoder = SlimDecoder(num_classes, leaky_slope)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, 1, H, W] to logits; the border has a constant, where Keras clips."""
        if self.noise_std > 0:
            x = x + self.noise_std * torch.randn_like(x)
        logits = self.decoder(self.encoder(x)).float()
        edge = self.border
        inside = logits[:, :, edge : logits.shape[2] - edge, edge : logits.shape[3] - edge]
        return F.pad(inside, (edge,) * 4, value=math.log(1e-7 / (1 - 1e-7)))


class SlimEncoder(nn.Module):
    """BatchNorm and five convolutions, the last four of stride 2."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.norm = nn.BatchNorm2d(1)
        self.conv_0 = nn.Conv2d(1, 8, 3, padding=1)
        for i, (channels, features) in enumerate(itertools.pairwise([8, 16, 32, 32, 32]), start=1):
            self.add_module(f"conv_{i}", nn.Conv2d(channels, features, 3, stride=2))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Returns five outputs, finest first."""
        outputs = [F.leaky_relu(self.conv_0(self.norm(x)), self.slope)]
        for i in range(1, 5):
            padded = F.pad(outputs[-1], (0, 1, 0, 1))  # Keras's "same": below and right alone.
            outputs.append(F.leaky_relu(getattr(self, f"conv_{i}")(padded), self.slope))
        return outputs


class SlimDecoder(nn.Module):
    """Nearest x2 up-sampling, [up, skip], convolutions with LeakyReLU; a linear one last."""

    def __init__(self, num_classes: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        # conv_0 and conv_4 see no skip.
        channels = ((32, 32), (32 + 32, 32), (32 + 32, 32), (32 + 16, 32), (32, 32), (32 + 8, 16))
        for i, pair in enumerate(channels):
            self.add_module(f"conv_{i}", nn.Conv2d(*pair, 3, padding=1))
        self.head = nn.Conv2d(16, num_classes, 3, padding=1)

    def forward(self, outputs: list[torch.Tensor]) -> torch.Tensor:
        """Maps the outputs of the encoder to logits."""
        *skips, x = outputs
        x = self._conv(0, x)
        for i in (1, 2, 3, 5):
            up = F.interpolate(x, scale_factor=2, mode="nearest")
            x = self._conv(i, torch.cat([up, skips.pop()], dim=1))
            x = self._conv(4, x) if i == 3 else x
        return self.head(x)

    def _conv(self, i: int, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(getattr(self, f"conv_{i}")(x), self.slope)


class V7UNet(nn.Module):
    """The U-Net of Zhang, `jaxlung.models.v7_unet.V7UNet`."""

    def __init__(
        self, widths: Sequence[int], num_classes: int, in_channels: int, dropout: float
    ) -> None:
        super().__init__()
        self.depth, self.in_channels = len(widths) - 1, in_channels
        for level, pair in enumerate(itertools.pairwise([in_channels, *widths[:-1]])):
            self.add_module(f"encoder_{level}", layers.ConvPair(*pair))
        self.bottleneck = layers.ConvPair(widths[-2], widths[-1])
        for level, (features, below) in enumerate(itertools.pairwise(widths)):
            self.add_module(f"up_{level}", nn.Conv2d(below, features, 2))
            self.add_module(f"decoder_{level}", layers.ConvPair(2 * features, features))
        self.before_head = nn.Conv2d(widths[0], 2 * num_classes, 3, padding=1)
        self.head = nn.Conv2d(2 * num_classes, num_classes, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, 1, H, W] to logits."""
        x = x.expand(-1, self.in_channels, -1, -1)
        skips = []
        for level in range(self.depth):
            x = getattr(self, f"encoder_{level}")(x)
            skips.append(self.drop(x) if level == self.depth - 1 else x)
            x = F.max_pool2d(skips[-1], 2)
        x = self.drop(self.bottleneck(x))
        for level in reversed(range(self.depth)):
            up = F.interpolate(x, scale_factor=2, mode="nearest")
            # Keras's "same" of an even kernel: a row below, a column at the right.
            up = F.relu(getattr(self, f"up_{level}")(F.pad(up, (0, 1, 0, 1))), inplace=True)
            x = getattr(self, f"decoder_{level}")(torch.cat([skips[level], up], dim=1))
        return self.head(F.relu(self.before_head(x), inplace=True)).float()


class FvPasppUNet(nn.Module):
    """The 3D U-Net of Lin and Huang, `jaxlung.models.fv_paspp_unet.FvPasppUNet`."""

    def __init__(
        self,
        widths: Sequence[int],
        strides: Sequence[layers.Triple],
        attention: str,
        reduction: int,
        paspp: bool,
        paspp_rates: Sequence[layers.Triple],
        deep_supervision: bool,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.strides = [tuple(triple) for triple in strides]
        self.depth, self.deep_supervision = len(widths) - 1, deep_supervision
        self._make_encoder(widths, attention, reduction)
        self.paspp = layers.PASPP(widths[-1], paspp_rates) if paspp else nn.Identity()
        for level, (features, below) in enumerate(itertools.pairwise(widths)):
            step = self.strides[level]
            self.add_module(f"up_{level}", nn.ConvTranspose3d(below, features, step, step))
            self.add_module(f"decoder_{level}", layers.ResidualBlock3D(2 * features, features))
        self.head = nn.Conv3d(widths[0], num_classes, 1)
        for level in range(1, self.depth if deep_supervision else 1):
            self.add_module(f"head_{level}", nn.Conv3d(widths[level], num_classes, 1))

    def _make_encoder(self, widths: Sequence[int], attention: str, reduction: int) -> None:
        for level, pair in enumerate(itertools.pairwise([1, *widths])):
            name = f"encoder_{level}" if level < self.depth else "bottleneck"
            step = self.strides[level - 1] if level else layers.ONES
            self.add_module(name, layers.ResidualBlock3D(*pair, step))
            if attention != "none" and (level < 2 or level == self.depth):
                self.add_module(f"fv_{level}", layers.FVBlock(pair[1], attention, reduction))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps [B, 1, D, H, W] to logits: the final ones, then intermediate ones, deepest first."""
        skips = []
        for level in range(self.depth + 1):
            x = getattr(self, f"encoder_{level}" if level < self.depth else "bottleneck")(x)
            x = getattr(self, f"fv_{level}", nn.Identity())(x)
            skips.append(x)
        x = self.paspp(skips.pop())
        supervised = []
        for level in reversed(range(self.depth)):
            up = getattr(self, f"up_{level}")(x)
            x = getattr(self, f"decoder_{level}")(torch.cat([skips[level], up], dim=1))
            if level > 0 and self.deep_supervision:
                supervised.append(self._supervise(x, level))
        return [self.head(x).float(), *supervised]

    def _supervise(self, x: torch.Tensor, level: int) -> torch.Tensor:
        factors = tuple(math.prod(axis) for axis in zip(*self.strides[:level], strict=True))
        logits = getattr(self, f"head_{level}")(x).float()
        return F.interpolate(logits, scale_factor=factors, mode="nearest")


def make_network(model_name: str, model: dict[str, Any], network: str) -> nn.Module:
    """Returns the network of a config's `model_name` and `model` section.

    Args:
        model_name: a key of `jaxlung.models.MODELS` that is among `NETWORKS`.
        model: the section.
        network: "" for that very network, or "monai_unet" or "monai_basic_unet", of like size.

    Raises:
        ValueError: there is no such network here.
    """
    if network:
        return _make_monai(network, model)
    if model_name not in NETWORKS:
        raise ValueError(f"peers: got network {model_name!r}, want one of {', '.join(NETWORKS)}.")
    fields = {k: v for k, v in model.items() if k not in ("dtype", "pad_input")}
    return NETWORKS[model_name](**fields)


def _make_monai(network: str, model: dict[str, Any]) -> nn.Module:
    """Returns a network of MONAI with BatchNorm and the widths of `UNet`."""
    from monai.networks import nets  # Not every user has it.

    widths = tuple(model["widths"])
    if network == "monai_basic_unet":  # Also with double convolutions and max-pooling.
        return nets.BasicUNet(
            2, 1, 1, (*widths, widths[0]), act=("relu", {"inplace": True}), norm="batch"
        )
    strides = (2,) * (len(widths) - 1)
    return nets.UNet(2, 1, 1, widths, strides, num_res_units=2, act="relu", norm="batch")


NETWORKS = {
    "unet": UNet,
    "slim_unet": SlimUNet,
    "v7_unet": V7UNet,
    "fv_paspp_unet": FvPasppUNet,
}
