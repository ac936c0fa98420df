"""Communication of small programs that can be counted by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxlung.benchmark import collectives
from jaxlung.parallel import sharding

ADD = """
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %sum = f32[] add(%a, %b)
}
"""


def module(entry, *computations):
    return "\n".join(
        ["HloModule jit_f, is_scheduled=true", ADD, *computations, "ENTRY %main.9 (p: f32[8]) -> "]
    ) + ("f32[8] {\n  %p = f32[8]{0} parameter(0)\n" + entry + "\n}\n")


def test_a_combined_all_reduce_is_the_sum_of_its_arrays():
    text = module(
        "  ROOT %all-reduce.1 = (f32[3,3,4,8]{3,2,1,0}, bf16[8]{0}, /*index=2*/f32[]) "
        "all-reduce(%x, %y, %z), channel_id=1, replica_groups={{0,1}}, to_apply=%add, "
        'metadata={op_name="jit(f)/psum"}'
    )
    (found,) = collectives.parse(text)
    assert found == collectives.Collective(
        kind="all-reduce",
        shapes=("f32[3,3,4,8]", "bf16[8]", "f32[]"),
        num_bytes=4 * 3 * 3 * 4 * 8 + 2 * 8 + 4,
        count=1,
        op_name="jit(f)/psum",
    )


def test_a_start_and_its_done_are_one_collective_of_the_result_alone():
    text = module(
        "  %s = (f32[8]{0}, f32[16]{0}) all-gather-start(%p), dimensions={0}\n"
        "  %d = f32[16]{0} all-gather-done(%s)\n"
        "  %c = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%p), "
        "source_target_pairs={{0,1}}\n"
        "  %e = f32[8]{0:T(256)} collective-permute-done(%c)\n"
        "  %r = f32[8]{0} all-reduce-start(%p), to_apply=%add\n"
        "  ROOT %q = f32[8]{0} all-reduce-done(%r)"
    )
    assert collectives.totals(collectives.parse(text)) == {
        "all-gather": collectives.Total(1, 64),
        "collective-permute": collectives.Total(1, 32),
        "all-reduce": collectives.Total(1, 32),
    }


def test_a_wrapped_collective_counts_once():
    wrapped = (
        "%wrapped (q: f32[8]) -> f32[4] {\n  %q = f32[8]{0} parameter(0)\n"
        "  ROOT %rs = f32[4]{0} reduce-scatter(%q), dimensions={0}, to_apply=%add\n}\n"
    )
    text = module(
        "  %s = ((f32[8]{0}), f32[4]{0}) async-start(%p), calls=%wrapped\n"
        "  ROOT %d = f32[4]{0} async-done(%s), calls=%wrapped",
        wrapped,
    )
    assert collectives.totals(collectives.parse(text)) == {
        "reduce-scatter": collectives.Total(1, 16)
    }


def loop(name, body, trips):
    config = f', backend_config={{"known_trip_count":{{"n":"{trips}"}}}}' if trips else ""
    return f"  %{name} = (f32[8]{{0}}) while(%t), condition=%less, body=%{body}{config}\n"


def body(name, line):
    return f"%{name} (t: (f32[8])) -> (f32[8]) {{\n{line}}}\n"


PERMUTE = "  %c = f32[8]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}\n"


def test_loops_multiply_and_so_do_loops_inside_them():
    inner = body("inner", PERMUTE)
    outer = body("outer", PERMUTE + loop("w", "inner", 5))
    text = module(loop("v", "outer", 3), inner, outer)
    assert sorted(found.count for found in collectives.parse(text)) == [3, 15]
    want = {"collective-permute": collectives.Total(18, 18 * 32)}
    assert collectives.totals(collectives.parse(text)) == want


def test_a_computation_that_is_called_twice_counts_twice_and_one_never_called_not_at_all():
    text = module(
        loop("v", "one", 3) + loop("w", "one", 4), body("one", PERMUTE), body("no", PERMUTE)
    )
    assert [found.count for found in collectives.parse(text)] == [7]


def test_a_loop_of_unknown_length_is_said_to_be_one():
    text = module(loop("v", "one", None), body("one", PERMUTE))
    found = collectives.parse(text)
    assert [collective.count for collective in found] == [None]
    with pytest.raises(ValueError, match=r"collective-permute f32\[8\].*loop of unknown length"):
        collectives.totals(found)


def test_every_branch_of_a_conditional_counts():
    text = module(
        "  ROOT %k = f32[8]{0} conditional(%i, %p, %p), branch_computations={%one, %two}",
        body("one", PERMUTE),
        body("two", PERMUTE),
    )
    assert [found.count for found in collectives.parse(text)] == [1, 1]


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match=r"got 'hello', want the text of a compiled program"):
        collectives.parse("hello")


SPLIT = PartitionSpec("data")


def compile_on_four(function, *shapes, out=SPLIT):
    """`function` of float32 arrays, each split over 4 devices along its first axis."""
    mesh = sharding.make_shardings(data=4, space=1).batch.mesh
    shard = functools.partial(NamedSharding, mesh)
    args = [jax.ShapeDtypeStruct(shape, np.float32, sharding=shard(SPLIT)) for shape in shapes]
    compiled = jax.jit(function, out_shardings=shard(out)).lower(*args).compile()
    return collectives.totals(collectives.parse(compiled.as_text()))


def map_parts(function):
    mesh = sharding.make_shardings(data=4, space=1).batch.mesh
    return jax.shard_map(function, mesh=mesh, in_specs=SPLIT, out_specs=SPLIT, check_vma=False)


def rotate(x):
    return jax.lax.ppermute(x, "data", [(i, (i + 1) % 4) for i in range(4)])


def test_what_jax_is_told_to_send_is_what_is_counted():
    # One device holds [2, 6] float32, 48 bytes.
    shape = (8, 6)
    assert compile_on_four(map_parts(lambda x: jax.lax.psum(x, "data")), shape) == {
        "all-reduce": collectives.Total(1, 48)
    }
    assert compile_on_four(map_parts(rotate), shape) == {
        "collective-permute": collectives.Total(1, 48)
    }
    gather = map_parts(lambda x: jax.lax.all_gather(x, "data").sum(0))
    assert compile_on_four(gather, shape) == {"all-gather": collectives.Total(1, 4 * 48)}


def test_a_scan_sends_as_often_as_it_goes_round():
    def rotate_often(x):
        return jax.lax.scan(lambda x, _: (rotate(x) * 2, None), x, length=7)[0]

    want = {"collective-permute": collectives.Total(7, 7 * 48)}
    assert compile_on_four(map_parts(rotate_often), (8, 6)) == want


def test_what_the_compiler_adds_is_counted():
    def product(x, y):
        return x.T @ y

    # A contraction over what is split: partial sums [6, 5], added.
    got = compile_on_four(product, (8, 6), (8, 5), out=PartitionSpec())
    assert got == {"all-reduce": collectives.Total(1, 4 * 6 * 5)}


def test_a_program_of_one_device_sends_nothing():
    compiled = jax.jit(jnp.sin).lower(np.ones(3, np.float32)).compile()
    assert collectives.parse(compiled.as_text()) == []
