"""The 3D U-Net of Lin and Huang: residual blocks, FV blocks, PASPP, deep supervision."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import fv_block, lanes, layers, layers_3d, network, paspp


class FvPasppUNet(network.Network):
    """A residual 3D U-Net; each of the paper's three additions is switched by an attribute.

    Lin and Huang, section 3.2 and Figure 1, which give no sizes. Our choice: every level of encoder
    and decoder is one `layers_3d.ResidualBlock`. The first convolution of a block in the encoder
    has the stride of the way down; the way up is `layers_3d.UpConv3D`. FV blocks follow the first
    two levels of the encoder and the bottleneck, where they stand before PASPP.

    Deep supervision adds a 1 x 1 x 1 convolution to every level of the decoder between the
    bottleneck and the finest level. The paper up-samples before that convolution; we up-sample
    after it, which gives the same numbers with fewer operations. Up-sampling to the nearest voxel
    is our choice.

    Attributes:
        widths: channels of each level, finest first; the last one is the bottleneck.
        strides: for each step down, strides along D, H, W, each 1 or 2; one step fewer than levels.
        attention: "none" for no FV blocks, "se" or "ce" for FV blocks with that kind of gate.
        reduction: the gate's hidden layer has C / reduction channels.
        paspp: use PASPP at the bottleneck.
        paspp_rates: distances of the taps of its four atrous convolutions, each along D, H, W; 1,
            2, 4 and 8 in the paper.
        deep_supervision: in training, also return the logits of the intermediate levels.
        num_classes: number of output channels.
        dtype: compute type, "float32" or "bfloat16"; parameters and statistics are float32.
        in_lanes: compute the finest levels with their slices in lanes (see `lanes`) if they are
            few and narrow, in which TPUs are faster. It changes no result. Configs leave it out;
            see `for_platform`.
    """

    widths: Sequence[int]
    strides: Sequence[layers_3d.Triple]
    attention: str
    reduction: int
    paspp: bool
    paspp_rates: Sequence[layers_3d.Triple]
    deep_supervision: bool
    num_classes: int
    dtype: str
    in_lanes: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for attributes that no network can have."""
        self._require_levels()
        self._require_blocks()
        network.require_dtype(self.dtype)
        network.require_count("num_classes", self.num_classes)
        super().__post_init__()

    @nn.nowrap
    def input_multiples(self) -> layers_3d.Triple:
        """Returns the product of all strides, along D, H and W."""
        return layers_3d.total_strides(self.strides)

    @nn.nowrap
    def for_platform(self, platform: str) -> "FvPasppUNet":
        """See `network.Network.for_platform`: TPUs compute with slices in lanes."""
        return self.clone(in_lanes=platform == "tpu")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, ...]:
        """Maps volumes to logits.

        Args:
            images: [B, D, H, W, 1] float32 in [0, 1].
            train: use and update the statistics of this batch.

        Returns:
            [B, D, H, W, num_classes] float32 logits. With `deep_supervision` and `train`, a tuple
            of these and the logits of the intermediate levels at the same size, deepest first.

        Raises:
            ValueError: D, H or W is not a multiple of the product of its strides.
        """
        remedy = f"change the patch size or model.strides ({len(self.widths)} levels)"
        network.require_multiples(images, self.input_multiples(), remedy)
        slices = self._slices_in_lanes(images.shape[1])
        skips = self._encode(images.astype(self.dtype), slices, train)
        finest, *others = reversed(self._decode(skips, slices, train))
        logits = self._head(finest, slices[0], "head")
        # All parameters exist from the start, however the network is first called.
        if not self.deep_supervision or not (train or self.is_initializing()):
            return logits
        supervised = [
            self._supervise(x, slices[level], level) for level, x in enumerate(others, start=1)
        ]
        return (logits, *reversed(supervised)) if train else logits

    def _slices_in_lanes(self, depth: int) -> list[int]:
        """Returns each level's number of slices if they are in lanes, else 0."""
        if not self.in_lanes:  # The depth of an exported program may be any.
            return [0] * len(self.widths)
        fits, slices = True, []
        for level, features in enumerate(self.widths):
            fits &= lanes.fits(depth, features) and level < len(self.strides)
            fits &= not level or self.strides[level - 1][0] == 1
            slices.append(depth if fits else 0)
        return slices

    def _encode(self, x: jax.Array, slices: list[int], train: bool) -> list[jax.Array]:
        """Returns the output of each level, finest first; the last one is the bottleneck's."""
        if slices[0]:
            x = lanes.fold(x)
        outputs = []
        bottom = len(self.widths) - 1
        for level, features in enumerate(self.widths):
            name = f"encoder_{level}" if level < bottom else "bottleneck"
            strides = self.strides[level - 1] if level else layers_3d.ONES
            form: dict[str, Any] = dict(dtype=self.dtype, slices=slices[level])
            if level and slices[level - 1] and not slices[level]:
                x = lanes.unfold(x, slices[level - 1])
            x = layers_3d.ResidualBlock(features, strides, **form, name=name)(x, train=train)
            if self.attention != "none" and (level < 2 or level == bottom):
                block = fv_block.FVBlock(self.attention, self.reduction, **form, name=f"fv_{level}")
                x = block(x, train=train)
            outputs.append(x)
        if self.paspp:
            outputs[-1] = paspp.PASPP(self.paspp_rates, self.dtype, name="paspp")(x, train=train)
        return outputs

    def _decode(self, skips: list[jax.Array], slices: list[int], train: bool) -> list[jax.Array]:
        """Returns the output of each level of the decoder, deepest first."""
        *skips, x = skips
        outputs = []
        for level in reversed(range(len(skips))):
            features = self.widths[level]
            up = layers_3d.UpConv3D(
                features, self.strides[level], self.dtype, slices[level + 1], name=f"up_{level}"
            )
            block = layers_3d.ResidualBlock(
                features, dtype=self.dtype, slices=slices[level], name=f"decoder_{level}"
            )
            x = up(x)
            if slices[level] and not slices[level + 1]:
                x = lanes.fold(x)
            x = block(skips[level], x, train=train)
            outputs.append(x)
        return outputs

    def _head(self, x: jax.Array, slices: int, name: str) -> jax.Array:
        """Returns logits in float32, by a 1 x 1 x 1 convolution."""
        if slices:
            x = lanes.Dense(self.num_classes, slices, self.dtype, name=name)(x)
            return lanes.unfold(x, slices).astype(jnp.float32)
        return nn.Dense(self.num_classes, dtype=self.dtype, name=name)(x).astype(jnp.float32)

    def _supervise(self, x: jax.Array, slices: int, level: int) -> jax.Array:
        factors = layers_3d.total_strides(self.strides[:level])
        return layers.upsample(self._head(x, slices, f"head_{level}"), factors)

    def _require_levels(self) -> None:
        levels = len(self.widths)
        network.require_counts("widths", self.widths, at_least=2)
        good = len(self.strides) == levels - 1 and _are_triples(self.strides, most=2)
        want = f"{levels - 1} triples (D, H, W) of 1 or 2, one fewer than widths"
        network.require("strides", self.strides, good, want)
        good = not self.deep_supervision or levels > 2
        want = "False, or three or more widths: two levels have none in between"
        network.require("deep_supervision", self.deep_supervision, good, want)

    def _require_blocks(self) -> None:
        choices = fv_block.ATTENTIONS
        good = self.attention in choices
        network.require("attention", self.attention, good, f"one of {', '.join(choices)}")
        attended = () if self.attention == "none" else (*self.widths[:2], self.widths[-1])
        network.require_count("reduction", self.reduction)
        good = all(width % self.reduction == 0 for width in attended)
        want = (
            f"multiples of the reduction, {self.reduction}, for the levels with FV blocks (the "
            "first two and the last)"
        )
        network.require("widths", tuple(self.widths), good, want)
        good = len(self.paspp_rates) == paspp.BRANCHES and _are_triples(self.paspp_rates)
        want = f"{paspp.BRANCHES} triples (D, H, W) of counts above 0"
        network.require("paspp_rates", self.paspp_rates, good, want)
        good = not self.paspp or self.widths[-1] % paspp.BRANCHES == 0
        want = f"a last one that is a multiple of {paspp.BRANCHES}, for PASPP"
        network.require("widths", tuple(self.widths), good, want)


def _are_triples(values: Sequence[Sequence[int]], most: int | None = None) -> bool:
    """Returns whether `values` are triples of whole numbers from 1 to `most`."""
    return all(
        isinstance(value, Sequence)
        and len(value) == 3
        and all(isinstance(v, int) and v >= 1 and (most is None or v <= most) for v in value)
        for value in values
    )
