"""The feature variation block (Yan et al., 2021; Lin and Huang): channel and place attention."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxlung.models import lanes, layers_3d, norm_sum

ATTENTIONS = ("none", "se", "ce")


class FVBlock(nn.Module):
    """A residual block that weighs features by channel and by place.

    With `f = relu(norm(conv1(x)))`, `out = x + relu(norm(conv3([gate f, map f, f])))` (Lin and
    Huang, section 2.1). The paper draws the block without sizes. Our choice: the map has one value
    per voxel, its hidden layer is as wide as f, and its convolutions have a bias.

    Attributes:
        attention: kind of the channel gate: "se", one gate per channel, or "ce", one per volume.
        reduction: the gate's hidden layer has C / reduction channels.
        dtype: compute type; parameters and statistics are float32.
        slices: D if the slices are in lanes (see `lanes`), else 0.
    """

    attention: str
    reduction: int = 2
    dtype: str = "float32"
    slices: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, D, H, W, C] to the same shape; C must be a multiple of `reduction`.

        With slices in lanes, maps [B, H, W, D C] to the same shape. `train` uses and updates batch
        statistics.
        """
        channels = x.shape[-1] // (self.slices or 1)
        conv_norm = functools.partial(
            layers_3d.ConvNorm, channels, dtype=self.dtype, slices=self.slices
        )
        features = norm_sum.add_relu((conv_norm(size=1, name="features")(x, train=train),))
        gates = channels if self.attention == "se" else 1
        gate = ChannelGate(gates, self.reduction, self.slices, name="gate")(features)
        place = PlaceMap(self.dtype, self.slices, name="map")(features)
        if self.slices:
            place = lanes.repeat(place, channels)
        branches = [gate.astype(features.dtype) * features, place * features, features]
        fuse = conv_norm(parts=len(branches), name="fuse")
        fused = norm_sum.add_relu((fuse(jnp.concatenate(branches, axis=-1), train=train),))
        return x.astype(fused.dtype) + fused


class ChannelGate(nn.Module):
    """Gates from the mean of each channel over all voxels: `sigmoid(dense(relu(dense(mean))))`.

    Squeeze and excitation (SE; Hu et al., 2018) has one gate per channel, contrast enhancement (CE;
    Yan et al., 2021) one per volume (Lin and Huang, section 3.3). It is computed in float32, as
    bfloat16 is too coarse for a mean over 131,072 voxels.

    Attributes:
        gates: number of gates, C or 1.
        reduction: the hidden layer has C / reduction channels. Lin and Huang have 2 for CE and give
            none for SE, where 2 is our choice.
        slices: D if the slices are in lanes (see `lanes`), else 0.
    """

    gates: int
    reduction: int = 2
    slices: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, D, H, W, C] to [B, 1, 1, 1, gates] float32 in (0, 1).

        With slices in lanes, maps [B, H, W, D C] to [B, 1, 1, D C].
        """
        batch = x.shape[0]
        means = jnp.mean(x, axis=tuple(range(1, x.ndim - 1)), dtype=jnp.float32)
        if self.slices:
            means = jnp.mean(means.reshape(batch, self.slices, -1), axis=1)
        channels = means.shape[-1]
        init = nn.initializers.he_normal()
        hidden = nn.relu(
            nn.Dense(channels // self.reduction, kernel_init=init, name="squeeze")(means)
        )
        gates = nn.sigmoid(nn.Dense(self.gates, name="excite")(hidden))
        if self.slices:
            gates = jnp.tile(jnp.broadcast_to(gates, means.shape), (1, self.slices))
        return gates.reshape(batch, *[1] * (x.ndim - 2), -1)


class PlaceMap(nn.Module):
    """A weight for every voxel: `sigmoid(conv3(relu(conv3(x))))`.

    Attributes:
        dtype: compute type; parameters are float32.
        slices: D if the slices are in lanes (see `lanes`), else 0.
    """

    dtype: str = "float32"
    slices: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, D, H, W, C] to [B, D, H, W, 1] of the compute type, in [0, 1].

        With slices in lanes, maps [B, H, W, D C] to [B, H, W, D].
        """
        channels = x.shape[-1] // (self.slices or 1)
        conv = functools.partial(layers_3d.Conv3x3x3, dtype=self.dtype, slices=self.slices)
        x = nn.relu(conv(channels, name="conv_0")(x))
        return nn.sigmoid(conv(1, name="conv_1")(x))
