"""Bytes of small programs that are counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlung.benchmark import hlo, traffic


def module(entry, *computations):
    head = "HloModule jit_f, is_scheduled=true"
    lines = [head, *computations, "ENTRY %main (p: f32[1000], q: f32[10]) -> f32[8] {"]
    parameters = "  %p = f32[1000]{0} parameter(0)\n  %q = f32[10]{0} parameter(1)\n"
    return "\n".join(lines) + "\n" + parameters + entry + "\n}\n"


def fused(body, name="fused"):
    return f"%{name} (a: f32[1000], b: f32[10]) -> f32[10] {{\n{body}\n}}\n"


def count(text):
    return {move.name: move for move in traffic.find(hlo.parse(text))}


def read_and_written(move):
    return move.num_read, move.num_written


def test_an_instruction_reads_its_operands_once_and_writes_its_result():
    moves = count(module("  %s = f32[1000]{0} multiply(%p, %p)"))
    assert {name: read_and_written(move) for name, move in moves.items()} == {"s": (4000, 4000)}


def test_what_only_names_or_groups_moves_nothing():
    moves = count(
        module(
            "  %b = f32[10,100]{1,0} bitcast(%p)\n  %t = (f32[10]{0}, f32[10,100]{1,0}) "
            "tuple(%q, %b)\n  ROOT %g = f32[10]{0} get-tuple-element(%t), index=0"
        )
    )
    assert moves == {}


def test_a_fusion_reads_its_operands_and_writes_its_results():
    body = fused(
        "  %a = f32[1000]{0} parameter(0)\n  %b = f32[10]{0} parameter(1)\n"
        "  %c = f32[1000]{0} exponential(%a)\n  %d = f32[10]{0} reduce(%c, %b)\n"
        "  ROOT %r = (f32[1000]{0}, f32[10]{0}) tuple(%c, %d)"
    )
    call = "  ROOT %f = (f32[1000]{0}, f32[10]{0}) fusion(%p, %q), kind=kLoop, calls=%fused"
    assert read_and_written(count(module(call, body))["f"]) == (4040, 4040)


def test_of_an_operand_that_a_fusion_only_slices_the_slices_count():
    body = fused(
        "  %a = f32[1000]{0} parameter(0)\n  %b = f32[10]{0} parameter(1)\n"
        "  %v = f32[10,100]{1,0} bitcast(%a)\n"
        "  %s = f32[1,10]{1,0} slice(%v), slice={[3:4], [0:10]}\n"
        "  %t = f32[1,10]{1,0} dynamic-slice(%v, %b, %b), dynamic_slice_sizes={1,10}\n"
        "  ROOT %d = f32[1,10]{1,0} add(%s, %t)"
    )
    call = "  ROOT %f = f32[1,10]{1,0} fusion(%p, %q), kind=kLoop, calls=%fused"
    assert read_and_written(count(module(call, body))["f"]) == (2 * 40 + 40, 40)


def test_an_operand_that_is_also_used_whole_counts_whole():
    body = fused(
        "  %a = f32[1000]{0} parameter(0)\n  %b = f32[10]{0} parameter(1)\n"
        "  %s = f32[10]{0} slice(%a), slice={[0:10]}\n  %e = f32[] reduce(%a, %b)\n"
        "  ROOT %d = f32[10]{0} add(%s, %e)"
    )
    call = "  ROOT %f = f32[10]{0} fusion(%p, %q), kind=kLoop, calls=%fused"
    assert read_and_written(count(module(call, body))["f"]) == (4040, 40)


def test_slices_never_count_more_than_the_whole():
    slices = "".join(
        f"  %s{i} = f32[600]{{0}} slice(%a), slice={{[{i}:{i + 600}]}}\n" for i in range(4)
    )
    body = fused(f"  %a = f32[1000]{{0}} parameter(0)\n{slices}  ROOT %d = f32[600]{{0}} add(%s0)")
    call = "  ROOT %f = f32[600]{0} fusion(%p), kind=kLoop, calls=%fused"
    assert read_and_written(count(module(call, body))["f"]) == (4000, 2400)


def test_an_array_that_is_changed_where_it_is_costs_the_change():
    body = fused(
        "  %a = f32[1000]{0} parameter(0)\n  %b = f32[10]{0} parameter(1)\n"
        "  %i = s32[] constant(0)\n"
        "  ROOT %d = f32[1000]{0} dynamic-update-slice(%a, %b, %i)"
    )
    call = "  ROOT %f = f32[1000]{0} fusion(%p, %q), kind=kLoop, calls=%fused"
    assert read_and_written(count(module(call, body))["f"]) == (40, 40)
    alone = "  %i = s32[] constant(0)\n  ROOT %d = f32[1000]{0} dynamic-update-slice(%p, %q, %i)"
    assert read_and_written(count(module(alone))["d"]) == (40 + 4, 40)


def test_a_loop_counts_as_often_as_it_goes_round():
    body = "%body (t: f32[1000]) -> f32[1000] {\n  %t = f32[1000]{0} parameter(0)\n"
    body += "  ROOT %e = f32[1000]{0} negate(%t)\n}\n"
    loop = "  ROOT %w = f32[1000]{0} while(%p), condition=%less, body=%body"
    known = loop + ', backend_config={"known_trip_count":{"n":"7"}}'
    assert count(module(known, body))["e"].num_bytes == 7 * 8000
    unknown = count(module(loop, body))["e"]
    assert (unknown.count, unknown.num_bytes) == (None, 8000)


def test_the_start_reads_and_the_done_writes():
    moves = count(
        module(
            "  %s = (f32[1000]{0}, f32[1000]{0}, u32[]) copy-start(%p)\n"
            "  ROOT %d = f32[1000]{0} copy-done(%s)"
        )
    )
    assert read_and_written(moves["s"]) == (4000, 0)
    assert read_and_written(moves["d"]) == (0, 4000)
    assert not moves["s"].is_turn


def test_memory_on_a_tpus_chip_is_not_counted():
    moves = count(
        module(
            "  %s = (f32[1000]{0:T(1024)S(1)}, f32[1000]{0}, u32[]) copy-start(%p)\n"
            "  %d = f32[1000]{0:T(1024)S(1)} copy-done(%s)\n"
            "  ROOT %e = f32[1000]{0:T(1024)} negate(%d)"
        )
    )
    assert [read_and_written(moves[name]) for name in "sde"] == [(4000, 0), (0, 0), (0, 4096)]


def test_slices_that_are_copied_onto_a_tpus_chip_read_no_more_than_themselves():
    moves = count(
        module(
            "  %s = ((f32[1000]{0}), f32[100]{0:T(128)S(1)}, s32[]) slice-start(%p)\n"
            "  %d = f32[100]{0:T(128)S(1)} slice-done(%s)\n"
            "  %t = f32[100]{0:T(128)S(1)} slice(%p)\n"
            "  %j = f32[200]{0:T(128)S(1)} custom-call(%d, %t), "
            'custom_call_target="ConcatBitcast"\n'
            "  ROOT %e = f32[200]{0} negate(%j)"
        )
    )
    assert {name: read_and_written(move) for name, move in moves.items()} == {
        **{"s": (512, 0), "d": (0, 0), "t": (512, 0)},  # 100 numbers take a tile of 128.
        "e": (0, 800),
    }


CONV = (
    "  %{name} = (f32[2,8,8,4]{{3,2,1,0}}, u8[512]{{0}}) custom-call(%p, %q), "
    'dim_labels={labels}, custom_call_target="__cudnn$convForward"'
)


def test_cudnns_convolutions_are_told_and_their_scratch_is_no_traffic():
    (move,) = count(module(CONV.format(name="c", labels="b01f_o01i->b01f"))).values()
    assert (move.kind, move.channels_first) == ("convolution", False)
    assert read_and_written(move) == (4040, 2 * 8 * 8 * 4 * 4)
    (move,) = count(module(CONV.format(name="c", labels="bf01_oi01->bf01"))).values()
    assert move.channels_first


def test_a_fusion_around_a_convolution_is_one_and_a_product_is_another_matter():
    def fusion(labels):
        inner = fused(
            "  %a = f32[1000]{0} parameter(0)\n"
            f"  ROOT %c = f32[10]{{0}} convolution(%a, %a), dim_labels={labels}",
            "inner",
        )
        outer = fused(
            "  %a = f32[1000]{0} parameter(0)\n"
            "  ROOT %f = f32[10]{0} fusion(%a), kind=kLoop, calls=%inner"
        )
        call = "  ROOT %g = f32[10]{0} fusion(%p), kind=kOutput, calls=%fused"
        return count(module(call, inner, outer))["g"].kind

    assert fusion("b01f_01io->b01f") == "convolution"
    assert fusion("bf_io->bf") == "product"
    body = fused("  %a = f32[1000]{0} parameter(0)\n  ROOT %d = f32[10]{0} dot(%a, %a)")
    call = "  ROOT %f = f32[10]{0} fusion(%p), kind=kCustom, calls=%fused"
    assert count(module(call, body))["f"].kind == "product"


@pytest.mark.parametrize(
    ("opcode", "root", "want"),
    [
        ("transpose", "", True),
        ("copy", "", True),
        ("copy", "  ROOT %v = f32[10,100]{1,0} bitcast(%r)\n", True),
        ("negate", "", False),
    ],
)
def test_a_transpose_or_a_copy_is_a_turn_by_itself_and_at_the_end_of_a_fusion(opcode, root, want):
    mark = "" if root else "ROOT "
    body = fused(
        "  %a = f32[1000]{0} parameter(0)\n  %e = f32[1000]{0} exponential(%a)\n"
        f"  {mark}%r = f32[1000]{{0}} {opcode}(%e)\n{root}"
    )
    call = "  ROOT %f = f32[1000]{0} fusion(%p), kind=kLoop, calls=%fused"
    assert count(module(call, body))["f"].is_turn == want
    if not root:
        assert count(module(f"  %t = f32[1000]{{0}} {opcode}(%p)"))["t"].is_turn == want


@pytest.mark.parametrize(
    ("op_name", "want"),
    [
        ("jit(step_fn)/jvp(UNet)/encoder_0/conv_0/conv_general_dilated", "encoder_0/conv_0"),
        (
            "jit(step_fn)/transpose(jvp(UNet))/encoder_0/norm_1/reduce_sum",
            "encoder_0/norm_1, backward",
        ),
        ("jit(evaluate)/UNet/head/add", "head"),
        ("jit(f)/jvp(Net)/Net._encode/first/conv/branch_0_fun/dot", "first/conv"),
        ("jit(f)/while/body/closed_call/jvp(UNet)/head/mul", "head"),
        ("jit(step_fn)/mul", "mul"),
        ("", ""),
    ],
)
def test_the_layer_of_an_instruction_is_the_networks_name_for_it(op_name, want):
    assert traffic.layer_of(op_name) == want


def test_a_real_program_moves_what_was_counted_by_hand():
    def function(x, y):
        return jnp.exp(x) @ y

    x, y = np.ones((100, 200), np.float32), np.ones((200, 50), np.float32)
    compiled = jax.jit(function).lower(x, y).compile()
    moves = traffic.find(hlo.parse(compiled.as_text()))
    # exp reads and writes x once, the product reads both factors and writes the result.
    want = 2 * x.nbytes + x.nbytes + y.nbytes + 4 * 100 * 50
    fewest = x.nbytes + y.nbytes + 4 * 100 * 50  # If exp rides on the product.
    assert fewest <= sum(move.num_bytes for move in moves) <= want
    assert traffic.total(moves, "product") >= fewest
