"""The roofline against figures by hand."""

import pytest

from jaxlung.benchmark import device_peaks, roofline, table

MADE_UP = device_peaks.Peaks(2e12, 1e12, 1e11, 1e9, "a data sheet")


@pytest.mark.parametrize(
    ("num_bytes", "limit", "least_seconds", "ridge"),
    [(1e9, "compute", 0.5, 10.0), (2e11, "memory", 2.0, 10.0)],
)
def test_the_bound_is_the_slower_of_computing_and_of_reading(
    num_bytes, limit, least_seconds, ridge
):
    # 5e11 FLOPs at 1e12 a second take half a second; 2e11 bytes at 1e11 a second two.
    work = {"flops_per_device": 5e11, "bytes_per_device": num_bytes}
    seconds = {"step_seconds": 4.0, "training_seconds": 5.0}
    found = roofline.bound(work, seconds, MADE_UP, "float32")
    assert found["bound"] == limit
    assert found["least_seconds"] == least_seconds
    assert found["ridge"] == ridge
    assert (found["flops_per_byte"] > ridge) == (limit == "compute")
    assert found["roofline_share"] == least_seconds / 4
    assert (found["step_share"], found["training_share"]) == (0.125, 0.1)
    assert roofline.bound(work, seconds, MADE_UP, "bfloat16")["step_share"] == 0.0625


def test_bytes_that_nobody_counts_leave_the_bound_out():
    seconds = {"step_seconds": 4.0, "training_seconds": 5.0}
    for unknown in (None, 0.0, -1.0):
        work = {"flops_per_device": 5e11, "bytes_per_device": unknown}
        assert "bound" not in roofline.bound(work, seconds, MADE_UP, "float32")


def test_memory_is_what_the_device_tells():
    class Device:
        def memory_stats(self):
            return {"peak_bytes_in_use": 3 * 2**30, "bytes_limit": 8 * 2**30}

    found = roofline.memory(Device(), None)
    assert found == {"bytes": 3 * 2**30, "how": "most in use", "limit": 8 * 2**30}
    assert table._memory(found) == "3 of 8 GiB, most in use"
