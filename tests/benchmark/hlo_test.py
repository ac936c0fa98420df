"""The text of compiled programs, by hand: shapes, operands, loops."""

import pytest

from jaxlung.benchmark import hlo

TEXT = """
HloModule jit_f, is_scheduled=true

%inner (t: (f32[8])) -> (f32[8]) {
  %t = (f32[8]{0}) parameter(0)
  ROOT %u = (f32[8]{0}) custom-call(%t), custom_call_target="f(x)"
}

%outer (t: (f32[8])) -> (f32[8]) {
  %t.1 = (f32[8]{0}) parameter(0)
  ROOT %v = (f32[8]{0}) while(%t.1), condition=%less, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
}

ENTRY %main (p: f32[8], q: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %q = f32[8]{0} parameter(1)
  %s = f32[8]{0} add(%p, f32[8]{0:T(8)} %q), metadata={op_name="jit(f)/add" source_line=3}
  %w = (f32[8]{0}) while(%s), condition=%less, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %c = f32[8]{0} conditional(%p, %s, %s), branch_computations={%inner, %outer}
}
"""  # noqa: E501


def test_an_instruction_has_its_operands_root_and_origin():
    program = hlo.parse(TEXT)
    assert program.entry == "main"
    assert list(program.computations) == ["inner", "outer", "main"]
    added = program.computations["main"]["s"]
    assert (added.opcode, added.operands, added.op_name) == ("add", ("p", "q"), "jit(f)/add")
    assert not added.is_root
    assert program.computations["main"]["q"].parameter_number == 1
    assert program.computations["main"]["c"].callees == ("inner", "outer")
    assert program.computations["main"]["c"].is_root
    assert program.computations["inner"]["u"].operands == ("t",)  # The target's brackets are text.


def test_loops_inside_loops_multiply_and_every_branch_counts():
    # inner: 3 x 5 by the loop, once as a branch, 5 times by the branch that is a loop.
    assert hlo.parse(TEXT).runs() == {"main": 1, "outer": 3 + 1, "inner": 3 * 5 + 1 + 5}
    assert hlo.parse(TEXT).runs(("while",)) == {"main": 1, "outer": 3, "inner": 15}


def test_a_loop_of_unknown_length_makes_all_inside_it_unknown():
    text = TEXT.replace(', backend_config={"known_trip_count":{"n":"3"}}', "")
    assert hlo.parse(text).runs() == {"main": 1, "outer": None, "inner": None}


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        *(("f32[2,3]", 24), ("bf16[5]", 10), ("pred[7]", 7), ("s4[3]", 2), ("f32[]", 4)),
        *(("f8e4m3fn[6]", 6), ("c64[2]", 16), ("f32[0]", 0), ("f32[<=4]", 16), ("token[]", 0)),
        ("(f32[2]{0}, (bf16[3]{0}, pred[]))", 8 + 6 + 1),
    ],
)
def test_bytes_of_a_shape(shape, want):
    assert sum(array.num_bytes for array in hlo.parse_shape(shape)) == want


@pytest.mark.parametrize(
    ("shape", "want"),
    [
        # 64 channels in 128 lanes, 16 images in 8 sublanes.
        ("bf16[16,256,256,64]{3,0,2,1:T(8,128)(2,1)}", 16 * 256 * 256 * 128 * 2),
        # 4 images in 8 sublanes too.
        ("bf16[4,256,256,64]{3,0,2,1:T(8,128)(2,1)}", 8 * 256 * 256 * 128 * 2),
        # Columns in lanes, rows in sublanes: no padding.
        ("bf16[4,256,256,64]{2,1,3,0:T(8,128)(2,1)}", 4 * 256 * 256 * 64 * 2),
        ("f32[100]{0:T(128)}", 128 * 4),
        ("f32[]{:T(128)}", 4),
    ],
)
def test_a_tpus_tiles_are_filled_with_padding(shape, want):
    (array,) = hlo.parse_shape(shape)
    assert array.num_bytes == want


def test_a_tpus_memory_on_the_chip_is_told_from_a_gpus_other_memory():
    (on_chip, gpu) = hlo.parse_shape("(f32[8,128]{1,0:T(8,128)S(1)}, f32[8]{0:S(1)})")
    assert on_chip.is_on_chip
    assert not gpu.is_on_chip


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match=r"got 'hello', want the text of a compiled program"):
        hlo.parse("hello")
