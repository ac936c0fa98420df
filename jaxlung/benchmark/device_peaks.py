"""Peak FLOP/s, bandwidth and memory of accelerators by their data sheets, without sparsity.

Numbers are for one JAX device. That is a chip, except on TPU v2, v3 and 7x, where it is one of the
two cores of a chip.

The rows were checked on 2026-11-27. Against XLA's descriptions of GPUs, which give cores, clocks,
operations per clock, memory and bandwidth (openxla/xla, xla/backends/gpu/target_config/specs/):
V100 SXM2 16GB, A100 SXM4, H100 80GB HBM3, H100 PCIE, H200, B200. Against copies of the data sheet:
L40S, B200; of Google's pages: TPU v5e, v5p, v6e. Cores x clock x operations give the FLOP/s of T4,
A10, L4, RTX 3090, 4090, 5090 and 6000 Ada. Not checked again: V100S, the other V100, A100 PCIE,
H100 NVL, H200 NVL, GH200, TPU v2, v3, v4 and 7x; and the bandwidth of L4 and of the RTX cards.
"""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Chip:
    """An NVIDIA GPU as XLA's compiler knows it, without its memory.

    Attributes:
        compute_capability: major and minor.
        num_cores: number of multiprocessors.
        fpus_per_core: float32 units of each.
        clock_ghz: highest clock rate, GHz.
        shared_memory: bytes of shared memory of each multiprocessor.
        l2_cache: bytes.
    """

    compute_capability: tuple[int, int]
    num_cores: int
    fpus_per_core: int
    clock_ghz: float
    shared_memory: int
    l2_cache: int


@dataclasses.dataclass(frozen=True)
class Peaks:
    """The peaks of one JAX device.

    Attributes:
        bfloat16: FLOP/s of matrix products of bfloat16 with sums in float32.
        float32: FLOP/s of matrix products of float32 at JAX's default precision: TF32 on NVIDIA
            since Ampere, plain float32 before; one pass in bfloat16 on TPUs.
        bandwidth: bytes/s between the device and its memory.
        memory: bytes; for devices with a `chip`, as the device tells.
        source: document that the numbers are from.
        link: bytes/s that it sends to others of its host (GPUs) or slice (TPUs) over all its links
            together, in one direction; None if unknown.
        chip: None where programs can't be compiled without the device, and for TPUs, which libtpu
            knows.
    """

    bfloat16: float
    float32: float
    bandwidth: float
    memory: float
    source: str
    link: float | None = None
    chip: Chip | None = None

    def flops(self, dtype: str) -> float:
        """Returns the peak FLOP/s of a network that computes in "float32" or "bfloat16"."""
        return self.bfloat16 if dtype == "bfloat16" else self.float32


# From openxla/xla, xla/backends/gpu/target_config/specs/: a100_sxm_80, h100_sxm, h200.
_GA100 = Chip((8, 0), 108, 64, 1.41, 164 * 2**10, 40 * 2**20)
_GH100 = Chip((9, 0), 132, 128, 1.98, 228 * 2**10, 50 * 2**20)

_GA102 = "NVIDIA Ampere GA102 GPU architecture white paper"
_ADA = "NVIDIA Ada GPU architecture white paper"
_V100 = "NVIDIA V100 data sheet; no bfloat16 units: products are computed in float32"
_V100S = "NVIDIA V100S data sheet; no bfloat16 units: products are computed in float32"
_T4 = "NVIDIA T4 data sheet; no bfloat16 units: products are computed in float32"
_A100 = "NVIDIA A100 data sheet"
_H100 = "NVIDIA H100 data sheet, half of its figures with sparsity"
_H200 = "NVIDIA H200 data sheet, half of its figures with sparsity"
_GH200 = "NVIDIA GH200 data sheet, half of its figures with sparsity"
_TPU = "Google Cloud TPU documentation, docs.cloud.google.com/tpu/docs/"

# Words, all of which must be in `device_kind` -> the peaks of the device.
PEAKS = {
    "V100 SXM2 16GB": Peaks(15.7e12, 15.7e12, 900e9, 16e9, _V100),
    "V100 SXM2 32GB": Peaks(15.7e12, 15.7e12, 900e9, 32e9, _V100),
    "V100 PCIE 16GB": Peaks(14e12, 14e12, 900e9, 16e9, _V100),
    "V100 PCIE 32GB": Peaks(14e12, 14e12, 900e9, 32e9, _V100),
    "V100S": Peaks(16.4e12, 16.4e12, 1134e9, 32e9, _V100S),
    "T4": Peaks(8.1e12, 8.1e12, 320e9, 16e9, _T4),
    "A10": Peaks(125e12, 62.5e12, 600e9, 24e9, "NVIDIA A10 data sheet"),
    "A100 SXM4 40GB": Peaks(312e12, 156e12, 1555e9, 40e9, _A100),
    "A100 PCIE 40GB": Peaks(312e12, 156e12, 1555e9, 40e9, _A100),
    "A100 SXM4 80GB": Peaks(312e12, 156e12, 2039e9, 85.1e9, _A100, 300e9, _GA100),
    "A100 PCIE 80GB": Peaks(312e12, 156e12, 1935e9, 80e9, _A100),
    "L4": Peaks(
        121e12, 60e12, 300e9, 24e9, "NVIDIA L4 data sheet, half of its figures with sparsity"
    ),
    "L40S": Peaks(362e12, 183e12, 864e9, 48e9, "NVIDIA L40S data sheet"),
    "GeForce RTX 3090": Peaks(71e12, 35.6e12, 936e9, 24e9, _GA102),
    "GeForce RTX 4090": Peaks(165.2e12, 82.6e12, 1008e9, 24e9, _ADA),
    "GeForce RTX 5090": Peaks(
        209.5e12, 104.8e12, 1792e9, 32e9, "NVIDIA RTX Blackwell GPU architecture white paper"
    ),
    "RTX 6000 Ada": Peaks(
        364.2e12, 182.1e12, 960e9, 48e9, "NVIDIA Ada professional GPU architecture white paper"
    ),
    "H100 80GB HBM3": Peaks(989.4e12, 494.7e12, 3350e9, 84.9e9, _H100, 450e9, _GH100),  # SXM
    "H100 PCIE": Peaks(756e12, 378e12, 2000e9, 80e9, _H100),
    "H100 NVL": Peaks(835.5e12, 417.5e12, 3900e9, 94e9, _H100),
    "H200": Peaks(989.4e12, 494.7e12, 4800e9, 151.4e9, _H200, 450e9, _GH100),  # SXM
    "H200 NVL": Peaks(835.5e12, 417.5e12, 4800e9, 141e9, _H200),
    "GH200 480GB": Peaks(
        989.4e12, 494.7e12, 4000e9, 96e9, _GH200
    ),  # The 480 GB are the CPU's memory.
    "GH200 144G": Peaks(989.4e12, 494.7e12, 4900e9, 144e9, _GH200),
    "B200": Peaks(
        2250e12,
        1100e12,
        7700e9,
        180e9,
        "NVIDIA HGX B200 data sheet, half of its figures with sparsity",
    ),
    "TPU v2": Peaks(
        23e12, 23e12, 350e9, 8 * 2**30, "half a chip of Jouppi et al., Commun. ACM 63(7), 2020"
    ),
    "TPU v3": Peaks(61.5e12, 61.5e12, 450e9, 16 * 2**30, _TPU + "v3, half a chip"),
    "TPU v4": Peaks(275e12, 275e12, 1200e9, 32 * 2**30, _TPU + "v4"),
    "TPU v5 lite": Peaks(197e12, 197e12, 819e9, 16e9, _TPU + "v5e", 200e9),
    "TPU v5e": Peaks(197e12, 197e12, 819e9, 16e9, _TPU + "v5e", 200e9),
    "TPU v5": Peaks(459e12, 459e12, 2765e9, 95 * 2**30, _TPU + "v5p", 600e9),  # As JAX names v5p.
    "TPU v5p": Peaks(459e12, 459e12, 2765e9, 95 * 2**30, _TPU + "v5p", 600e9),
    "TPU v6 lite": Peaks(918e12, 918e12, 1638e9, 32e9, _TPU + "v6e", 400e9),
    "TPU v6e": Peaks(918e12, 918e12, 1638e9, 32e9, _TPU + "v6e", 400e9),
    "TPU7x": Peaks(1153.5e12, 1153.5e12, 3690e9, 96 * 2**30, _TPU + "tpu7x, half a chip"),
}
# Words in the names of other devices, or of parts of a device.
_OTHERS = frozenset(("ti", "super", "d", "laptop", "mobile", "mig", "lite"))


def find(device_kind: str) -> Peaks | None:
    """Returns the peaks of a device; None if it is not in the table, or is a part of one that is.

    Whole words are compared, so that an A10G is not taken for an A10. The longest match counts.

    Args:
        device_kind: `jax.Device.device_kind`, such as "NVIDIA A100-SXM4-80GB".
    """
    words = _words(device_kind)
    matches = [name for name in PEAKS if _words(name) <= words]
    name = max(matches, key=lambda name: len(_words(name)), default="")
    return PEAKS[name] if name and not (words - _words(name)) & _OTHERS else None


def _words(name: str) -> frozenset[str]:
    return frozenset(re.split(r"[\s-]+", name.lower()))
