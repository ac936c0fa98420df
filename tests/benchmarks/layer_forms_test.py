"""Every form that the benchmark of layers times is the same layer, in value and gradient."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from benchmarks import layer_forms, layers

SIZES = ((3, 8, 6, 4), ((3, 8, 6, 4), (1, 5, 4, 4)), (2, 3, 4, 6, 4))
LAYERS = layer_forms.all_layers(*SIZES, "float32")


class LayerFormsTest(parameterized.TestCase):
    @parameterized.parameters(*range(len(LAYERS)))
    def test_all_forms_agree_in_value_and_gradient(self, index):
        layer = LAYERS[index]
        np_rng = np.random.default_rng(0)
        arguments = [jnp.asarray(np_rng.normal(size=s), jnp.float32) for s in layer.shapes]
        first, *others = layer.forms.values()
        weights = np_rng.normal(size=jax.eval_shape(first, *arguments).shape).astype(np.float32)

        def value_and_grads(form):
            def weighted(*arguments):
                y = form(*arguments)
                return jnp.sum(weights * y), y

            argnums = tuple(range(len(arguments)))
            (_, y), grads = jax.jit(jax.value_and_grad(weighted, argnums, has_aux=True))(*arguments)
            return y, *grads

        with jax.default_matmul_precision("highest"):
            want = value_and_grads(first)
            for form in others:
                for ours, theirs in zip(value_and_grads(form), want, strict=True):
                    atol = 1e-5 * float(jnp.abs(theirs).max())
                    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=atol)

    def test_every_layer_names_the_form_in_use(self):
        for layer in LAYERS:
            assert layer.used in layer.forms
            assert set(layer.options) <= set(layer.forms)
        assert len({(layer.name, layer.shapes) for layer in LAYERS}) == len(LAYERS)


class LayersTest(parameterized.TestCase):
    def test_a_ratio_is_that_of_each_round(self):
        """By hand: 2, 2 and 8 times as fast, where the medians alone would say 4."""
        summary = layers._summary(np.array([2.0, 4.0, 8.0]), np.array([1.0, 2.0, 1.0]))
        assert summary == {"ms": 1000.0, "speed": [2.0, 2.0, 5.0]}

    def test_measures_both_passes_of_every_form_and_marks_ours(self):
        layer = LAYERS[0]
        rows = layers.measure(layer, "float32", seconds=0.0)
        assert [row["form"] for row in rows] == list(layer.forms)
        assert [row["form"] for row in rows if row["is_used"]] == [layer.used]
        assert rows[0]["forward"]["speed"] == rows[0]["gradient"]["speed"] == [1.0, 1.0, 1.0]
        assert all(row[each]["ms"] > 0 for row in rows for each in ("forward", "gradient"))
        table = layers.markdown(rows).splitlines()
        assert len(table) == 2 + len(rows)
        assert sum(f"**{layer.used}**" in line for line in table) == 1

    @pytest.mark.slow
    def test_the_command_prints_markdown_or_lines_of_json(self):
        command = [sys.executable, "-m", "benchmarks.layers", "--quick", "--only=pool"]
        text, lines = (
            subprocess.run(each, check=True, capture_output=True, text=True).stdout.splitlines()
            for each in (command, [*command, "--json"])
        )
        rows = [json.loads(line) for line in lines]
        assert len(rows) == len([x for x in text if x.startswith("| 2 x 2 max")]) == 3
