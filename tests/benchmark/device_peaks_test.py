"""Which device is which, and numbers that must agree with each other."""

import pytest

from jaxlung.benchmark import device_peaks


@pytest.mark.parametrize(
    ("device_kind", "tera_bfloat16", "tera_float32", "giga_bytes_per_s"),
    [  # By hand from the data sheets.
        ("Tesla V100-SXM2-16GB", 15.7, 15.7, 900),
        ("Tesla V100S-PCIE-32GB", 16.4, 16.4, 1134),
        ("Tesla T4", 8.1, 8.1, 320),
        ("NVIDIA A10", 125, 62.5, 600),
        ("NVIDIA A100-SXM4-40GB", 312, 156, 1555),
        ("A100-SXM4-80GB", 312, 156, 2039),
        ("NVIDIA A100 80GB PCIe", 312, 156, 1935),
        ("NVIDIA L4", 121, 60, 300),
        ("NVIDIA L40S", 362, 183, 864),
        ("NVIDIA GeForce RTX 3090", 71, 35.6, 936),
        ("NVIDIA GeForce RTX 4090", 165.2, 82.6, 1008),
        ("NVIDIA GeForce RTX 5090", 209.5, 104.8, 1792),
        ("NVIDIA RTX 6000 Ada Generation", 364.2, 182.1, 960),
        ("NVIDIA H100 80GB HBM3", 989.4, 494.7, 3350),
        ("NVIDIA H100 PCIe", 756, 378, 2000),
        ("NVIDIA H100 NVL", 835.5, 417.5, 3900),
        ("NVIDIA H200", 989.4, 494.7, 4800),
        ("NVIDIA GH200 480GB", 989.4, 494.7, 4000),
        ("NVIDIA B200", 2250, 1100, 7700),
        ("TPU v3", 123 / 2, 123 / 2, 900 / 2),
        ("TPU v4", 275, 275, 1200),
        ("TPU v5 lite", 197, 197, 819),
        ("TPU v5", 459, 459, 2765),
        ("TPU v6 lite", 918, 918, 1638),
        ("TPU7x", 2307 / 2, 2307 / 2, 7380 / 2),
    ],
)
def test_a_device_has_its_own_data_sheets_peaks(
    device_kind, tera_bfloat16, tera_float32, giga_bytes_per_s
):
    peaks = device_peaks.find(device_kind)
    assert peaks.flops("bfloat16") == pytest.approx(tera_bfloat16 * 1e12)
    assert peaks.flops("float32") == pytest.approx(tera_float32 * 1e12)
    assert peaks.bandwidth == pytest.approx(giga_bytes_per_s * 1e9)


@pytest.mark.parametrize(
    "device_kind",
    [
        "cpu",
        "",
        "NVIDIA A10G",  # not an A10
        "NVIDIA L40",  # neither L4 nor L40S
        "NVIDIA H20",
        "NVIDIA GB200",
        "NVIDIA A100-SXM-64GB",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",  # a seventh of one
        "TPU v4 lite",
        "TPU v9",
    ],
)
def test_no_peaks_are_claimed_for_other_devices(device_kind):
    assert device_peaks.find(device_kind) is None


@pytest.mark.parametrize("name", list(device_peaks.PEAKS))
def test_every_row_can_be_found_and_is_plausible(name):
    peaks = device_peaks.PEAKS[name]
    assert device_peaks.find(name) == peaks
    # Matrix units are as fast or at most twice as fast in half the bits: a figure "with sparsity"
    # in one of the two columns would be out by another factor of two.
    assert 0.99 < peaks.bfloat16 / peaks.float32 < 2.1
    # A device's whole memory is read in 3 to 100 ms: slips in units are factors of a thousand.
    assert 0.003 < peaks.memory / peaks.bandwidth < 0.1
    assert peaks.source


@pytest.mark.parametrize(
    ("name", "per_core_and_clock", "tensor_ghz"),
    [("A100 SXM4 80GB", 2048, 1.41), ("H100 80GB HBM3", 4096, 1.8295), ("H200", 4096, 1.8295)],
)
def test_a_chips_cores_and_clock_give_its_peak(name, per_core_and_clock, tensor_ghz):
    # FLOPs of a core in a clock: 4 tensor cores with 256 or 512 multiply-adds. Those of Hopper have
    # a lower clock than the rest of the chip.
    peaks = device_peaks.PEAKS[name]
    assert peaks.chip.clock_ghz >= tensor_ghz
    flops = peaks.chip.num_cores * per_core_and_clock * tensor_ghz * 1e9
    assert peaks.bfloat16 == pytest.approx(flops, rel=1e-3)
