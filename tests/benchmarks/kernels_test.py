"""The time of a step by kind of kernel: a trace made by hand, and one of this CPU."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import kernels

GPU, HOST = 1, 2
STREAM, MODULES, PYTHON = 10, 11, 20


def meta(kind, pid, name, **more):
    return {"ph": "M", "name": f"{kind}_name", "pid": pid, "args": {"name": name}, **more}


def ran(name, operation, microseconds, pid=GPU, tid=STREAM):
    args = {"hlo_op": operation} if operation else {}
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "dur": microseconds, "args": args}


NAMES = [
    meta("process", GPU, "/device:GPU:0"),
    meta("process", HOST, "/host:CPU"),
    meta("thread", GPU, "Stream #14(Compute)", tid=STREAM),
    meta("thread", GPU, "XLA Modules", tid=MODULES),
    meta("thread", HOST, "python", tid=PYTHON),
]
# Names of kernels of one H200.
EVENTS = [
    *NAMES,
    ran("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32", "cudnn-conv.3.0", 2000),
    ran("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32", "cudnn-conv-bw-input.4.0", 600),
    ran("sm90_xmma_dgrad_implicit_gemm_bf16bf16_bf16f32", "", 400),
    ran("sm80_xmma_wgrad_implicit_gemm_indexed_bf16", "cudnn-conv-bw-filter.1.0", 3000),
    ran("void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16>", "cudnn-conv-bw-filter.1.0", 500),
    ran("void cudnn::ops::nhwcToNchwKernel<float>", "cudnn-conv.3.0", 500),
    ran("input_reduce_select_fusion_12", "input_reduce_select_fusion.12", 800),
    ran("loop_add_fusion_3", "loop_add_fusion.3", 300),
    ran("gemm_fusion_dot_7", "gemm_fusion_dot.7", 100),
    ran("MemcpyD2D", "", 50),
    ran("jit_step_fn", "", 9999, tid=MODULES),  # the whole program
    ran("Execute", "loop_add_fusion.3", 9999, pid=HOST, tid=PYTHON),
]


def test_kernels_of_a_device_are_added_up_by_kind():
    found = kernels.summarise(EVENTS, num_steps=2)
    assert found["ms_by_kind"] == {
        "convolution, weight gradient": 1.5,
        "convolution, forward": 1.0,
        "convolution, input gradient": 0.5,
        "layout conversion": 0.5,
        "reduction": 0.4,
        "elementwise": 0.15,
        "product": 0.05,
        "other": 0.025,
    }
    name, kind, ms, calls = found["kernels"][0]
    assert ("wgrad" in name, kind, ms, calls) == (True, "convolution, weight gradient", 1.5, 0.5)


@pytest.mark.parametrize(
    ("kernel", "operation", "kind"),
    [
        ("implicit_convolveNd_sgemm", "cudnn-conv.1.0", "convolution, forward"),
        ("cutlass_tensorop_bf16_s16816wgrad_optimized", "", "convolution, weight gradient"),
        ("loop_convert_fusion", "loop_convert_fusion", "elementwise"),
        ("wrapped_transpose", "wrapped_transpose.1", "layout conversion"),
        ("convolution.3", "convolution.3", "convolution"),
        ("nvjet_tst_128x256", "cublas-gemm.1", "product"),
    ],
)
def test_kinds_of_kernels(kernel, operation, kind):
    assert kernels.kind_of(kernel, operation) == kind


def test_a_folder_has_one_trace(tmp_path):
    with pytest.raises(ValueError, match="got 0 files"):
        kernels.breakdown(tmp_path, 1)
    folder = tmp_path / "plugins" / "profile" / "today"
    folder.mkdir(parents=True)
    with gzip.open(folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": EVENTS}, file)
    assert kernels.breakdown(tmp_path, 2) == kernels.summarise(EVENTS, 2)


def test_a_trace_of_this_cpu_has_its_operations(tmp_path):
    def loss(kernel, x):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.sum(jnp.square(y - jnp.mean(y, axis=(0, 1, 2), keepdims=True)))

    step = jax.jit(jax.grad(loss))
    arguments = jnp.ones((3, 3, 8, 8)), jnp.ones((2, 32, 32, 8))
    jax.block_until_ready(step(*arguments))
    with jax.profiler.trace(tmp_path):
        jax.block_until_ready(step(*arguments))
    found = kernels.breakdown(tmp_path, 1)
    assert found["ms_by_kind"]["convolution"] > 0
    assert set(found["ms_by_kind"]) <= {*kernels.KINDS, kernels.OTHER}
