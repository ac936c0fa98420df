"""Blocks of the PyTorch networks, whose submodules have the names of their Flax counterparts.

Arrays are channels-first: [B, C, H, W] or [B, C, D, H, W].
"""

import torch
import torch.nn.functional as F
from torch import nn

Triple = tuple[int, int, int]
ONES: Triple = (1, 1, 1)


class DoubleConv(nn.Module):
    """Two times 3 x 3 convolution, BatchNorm, ReLU; `jaxlung.models.layers.DoubleConv`."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(channels, features, 3, padding=1, bias=False)
        self.norm_0 = nn.BatchNorm2d(features)
        self.conv_1 = nn.Conv2d(features, features, 3, padding=1, bias=False)
        self.norm_1 = nn.BatchNorm2d(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, features, H, W]."""
        x = F.relu(self.norm_0(self.conv_0(x)), inplace=True)
        return F.relu(self.norm_1(self.conv_1(x)), inplace=True)


class ConvPair(nn.Module):
    """Two times 3 x 3 convolution with bias, ReLU; `jaxlung.models.v7_unet.ConvPair`."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(channels, features, 3, padding=1)
        self.conv_1 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, features, H, W]."""
        x = F.relu(self.conv_0(x), inplace=True)
        return F.relu(self.conv_1(x), inplace=True)


class ConvNorm3D(nn.Module):
    """Convolution of size 1 or 3 without bias, BatchNorm; `jaxlung.models.layers_3d.ConvNorm`."""

    def __init__(
        self,
        channels: int,
        features: int,
        size: int = 3,
        strides: Triple = ONES,
        rates: Triple = ONES,
    ) -> None:
        super().__init__()
        padding = rates if size == 3 else 0
        self.conv = nn.Conv3d(channels, features, size, strides, padding, rates, bias=False)
        self.norm = nn.BatchNorm3d(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, D, H, W] to [B, features, D / stride, H / stride, W / stride]."""
        return self.norm(self.conv(x))


class ResidualBlock3D(nn.Module):
    """`relu(convnorm(relu(convnorm(x))) + shortcut(x))`; `layers_3d.ResidualBlock`."""

    def __init__(self, channels: int, features: int, strides: Triple = ONES) -> None:
        super().__init__()
        self.first = ConvNorm3D(channels, features, strides=strides)
        self.second = ConvNorm3D(features, features)
        changes = channels != features or tuple(strides) != ONES
        self.shortcut = ConvNorm3D(channels, features, 1, strides) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, D, H, W] to [B, features, D / stride, H / stride, W / stride]."""
        y = self.second(F.relu(self.first(x), inplace=True))
        return F.relu(y + self.shortcut(x), inplace=True)


class ChannelGate(nn.Module):
    """Gates computed from the mean over all voxels; `jaxlung.models.fv_block.ChannelGate`."""

    def __init__(self, channels: int, gates: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, gates)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, D, H, W] to [B, gates, 1, 1, 1] in (0, 1)."""
        means = x.mean(dim=(2, 3, 4), dtype=torch.float32)
        gates = torch.sigmoid(self.excite(F.relu(self.squeeze(means))))
        return gates[:, :, None, None, None]


class PlaceMap(nn.Module):
    """`sigmoid(conv3(relu(conv3(x))))`; `jaxlung.models.fv_block.PlaceMap`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv_1 = nn.Conv3d(channels, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, D, H, W] to [B, 1, D, H, W] in [0, 1]."""
        return torch.sigmoid(self.conv_1(F.relu(self.conv_0(x), inplace=True)))


class FVBlock(nn.Module):
    """Feature variation block; `jaxlung.models.fv_block.FVBlock`."""

    def __init__(self, channels: int, attention: str, reduction: int) -> None:
        super().__init__()
        self.features = ConvNorm3D(channels, channels, 1)
        self.gate = ChannelGate(channels, channels if attention == "se" else 1, reduction)
        self.map = PlaceMap(channels)
        self.fuse = ConvNorm3D(3 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, D, H, W] to the same shape."""
        features = F.relu(self.features(x))
        gated = self.gate(features).to(features.dtype) * features
        branches = [gated, self.map(features) * features, features]
        return x + F.relu(self.fuse(torch.cat(branches, dim=1)), inplace=True)


class PASPP(nn.Module):
    """Progressive atrous spatial pyramid pooling; `jaxlung.models.paspp.PASPP`."""

    def __init__(self, channels: int, rates: list[Triple]) -> None:
        super().__init__()
        self.reduce = ConvNorm3D(channels, channels, 1)
        quarter, half = channels // 4, channels // 2
        for i, triple in enumerate(rates):
            self.add_module(f"atrous_{i}", ConvNorm3D(quarter, quarter, rates=tuple(triple)))
        self.pair_0 = ConvNorm3D(half, half, 1)
        self.pair_1 = ConvNorm3D(half, half, 1)
        self.join = ConvNorm3D(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, D, H, W] to the same shape."""
        views = F.relu(self.reduce(x)).chunk(4, dim=1)
        atrous = [F.relu(getattr(self, f"atrous_{i}")(view)) for i, view in enumerate(views)]
        pairs = []
        for i, conv in ((0, self.pair_0), (2, self.pair_1)):
            both = views[i] + views[i + 1]
            pairs.append(F.relu(conv(torch.cat([atrous[i] + both, atrous[i + 1] + both], dim=1))))
        return F.relu(self.join(torch.cat(pairs, dim=1)))
