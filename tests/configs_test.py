"""Every config: every variant is built, and its step is traced without data."""

import functools
import itertools
import shutil

import jax
import numpy as np
import pytest

from jaxlung.config import config_file, defaults
from jaxlung.data.feed import example, stream
from jaxlung.training import system

VARIANTS = {
    "covid19_ct": [
        "",
        "attention=none,paspp=false,deep_supervision=false",
        "attention=ce,paspp=false,deep_supervision=false,region=full",
        "target=lungs,phantom",
        "fold=1,folds=5,quick",
    ],
    "covidqu": ["", "phantom", "quick"],
    "covidqu_residual": ["", "loss=iou", "loss=bce_iou,phantom", "quick"],
    "cxr_lungs": ["", "phantom", "fold=4,folds=5,quick"],
    "folder": [
        "",
        "target=infection,network=residual_unet",
        "target=lung,network=slim_unet,quick",
        "network=v7_unet",
    ],
    "v7_diagnosis": [
        "",
        "crop=corner",
        "lungs=predicted,phantom",
        "crop=corner,phantom,fold=1,folds=3",
        "lungs=true,crop=corner,quick",
    ],
    "v7_lungs": ["", "per_class=500", "phantom", "per_class=500,fold=0,folds=2,quick"],
}
SPECS = [(name, arg) for name, args in VARIANTS.items() for arg in args]


@functools.cache
def make_system(spec):
    config = config_file.load(config_file.resolve(spec))
    config.data.batch_size += (
        -config.data.batch_size % 4
    )  # The tests' devices; Lin and Huang's is 5.
    return system.make_system(config)


@functools.cache
def abstract_state(spec):
    return make_system(spec).abstract_state()


def test_every_shipped_config_is_tested_here():
    assert list(VARIANTS) == list(config_file.shipped_configs())


@pytest.mark.parametrize(("name", "arg"), SPECS)
def test_step_keeps_the_shapes_of_the_state(name, arg):
    parts, state = make_system(f"{name}:{arg}"), abstract_state(f"{name}:{arg}")
    batch = {
        name: jax.ShapeDtypeStruct((1, parts.settings.batch_size, *spec.shape), spec.dtype)
        for name, spec in example.specs(parts.settings).items()
    }
    step_fn = parts.jit_train_step(stream.take)
    after, metrics = jax.eval_shape(step_fn, state, {}, batch, parts.seed)
    for before_leaf, after_leaf in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert (before_leaf.shape, before_leaf.dtype) == (after_leaf.shape, after_leaf.dtype)
    num_levels = len(parts.task.levels)
    assert metrics.pop("confusion").shape == (1, num_levels, num_levels)
    assert all(leaf.shape == (1,) for leaf in metrics.values())


@pytest.mark.parametrize("arg", ["", "phantom", "quick"])
def test_every_tap_of_the_ct_networks_dilated_convolutions_reaches_a_voxel(arg):
    config = config_file.load(config_file.resolve(f"covid19_ct:{arg}"))
    left = np.array(config.data.patch_size) // np.prod(config.model.strides, axis=0)
    assert (np.array(config.model.paspp_rates) < left).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task.region": "full"}, r"data\.crop_to_lungs: got True with a task that sees all"),
        ({"window_hu": (5.0, 1.0)}, r"window_hu: got \(5\.0, 1\.0\), want two numbers"),
        ({"window_hu": (5.0,)}, r"window_hu: got \(5\.0,\), want two numbers"),
        ({"model.strides": (2, 2)}, r"model\.strides: got \(2, 2\), want 2 triples"),
        ({"model.paspp_rates": (1, 2, 3, 4)}, r"model\.paspp_rates: got .* want 4 triples"),
        ({"data.foreground": "lung"}, r"data\.foreground: got 'lung', want task\.target"),
    ],
)
def test_a_ct_config_that_contradicts_itself_is_refused(change, message):
    config = config_file.load(config_file.resolve("covid19_ct:quick"))
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=message):
        system.make_system(config)


def test_a_ct_variant_that_can_not_be_is_refused():
    with pytest.raises(ValueError, match="target: got 'heart'"):
        config_file.load(config_file.resolve("covid19_ct:target=heart"))


PUBLISHED = ("covidqu", "covidqu_residual")


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in PUBLISHED])
def test_every_config_has_folds_unless_its_data_are_published_with_splits(name):
    data = config_file.load(config_file.resolve(f"{name}:fold=2,folds=7")).data
    assert (data.fold, data.folds) == (2, 7)
    assert data.get("protocol", "halves") == "halves"
    data = config_file.load(config_file.resolve(name)).data
    assert (data.fold, data.folds) == (0, 0)
    for arg in ("fold=1", "fold=7,folds=5", "folds=1"):
        with pytest.raises(ValueError, match=r"data\.folds?: got"):
            config_file.load(config_file.resolve(f"{name}:{arg}"))


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("arg", ["fold=0,folds=5", "quick,fold=0,folds=5"])
def test_data_that_are_published_with_splits_have_no_folds(name, arg):
    with pytest.raises(ValueError, match=rf"got '{arg}', but COVID-QU-Ex is published with its"):
        config_file.load(config_file.resolve(f"{name}:{arg}"))


@pytest.mark.parametrize(
    ("arg", "want"),
    [
        ("", "runs/v7_lungs"),
        ("quick", "runs/v7_lungs_quick"),
        ("phantom", "runs/v7_lungs_phantom"),
        ("fold=1,folds=5,phantom", "runs/v7_lungs_fold_1_folds_5_phantom"),
    ],
)
def test_a_diagnosis_takes_the_lungs_of_the_run_with_its_splits(arg, want):
    assert config_file.load(config_file.resolve(f"v7_diagnosis:{arg}")).lungs_run == want


@pytest.mark.parametrize(("arg", "seen"), [("", (246, 236)), ("crop=corner", (236, 236))])
def test_zhangs_diagnosis_network_sees_what_is_left_of_256_pixels(arg, seen):
    parts = make_system(f"v7_diagnosis:{arg}")
    shape = jax.eval_shape(parts.task.inputs, np.zeros((1, 256, 256, 1)), np.zeros((1, 256, 256)))
    assert shape.shape == (1, *seen, 1)


# Every number that a config shows beside ours, as the papers print it.
PRINTED = {
    "covidqu": (
        dict(mse=0.00288, mae=0.01394, precision=0.9378, recall=0.9361, iou=0.9731),
        dict(mse=0.00830, mae=0.02438, precision=0.8872, recall=0.8863, iou=0.9363),
        dict(mse=0.00873, mae=0.02522, precision=0.8856, recall=0.8829, iou=0.93337),
    ),
    "covidqu_residual": ({}, {}, dict(iou=0.138)),
    "covidqu_residual:loss=bce_iou": ({}, {}, dict(iou=0.138)),
    "covidqu_residual:loss=iou": ({}, {}, {}),  # That loss alone is not in the paper.
    "cxr_lungs": (
        dict(accuracy=(0.97, 0.98)),  # Section 3: "97-98% accuracy".
        dict(accuracy=(0.97, 0.98)),
        dict(mean_iou=0.95308775, accuracy=0.95),  # Section 3, abstract.
    ),
    "v7_lungs": (
        dict(accuracy_at_half=0.9697),
        dict(accuracy_at_half=0.9575, iou=0.8666, dice=0.9273),
        {},
    ),
    "v7_lungs:per_class=500": (
        dict(accuracy_at_half=0.9538),
        dict(accuracy_at_half=0.9114),
        {},
    ),
    "v7_lungs:per_class=600": ({}, {}, {}),
    "v7_diagnosis": (
        dict(accuracy_at_half=0.9620),
        dict(accuracy_at_half=0.9666, auc=0.985),
        {},
    ),
    "v7_diagnosis:crop=corner": (
        dict(accuracy_at_half=0.9723),
        dict(accuracy_at_half=0.9666),
        {},
    ),
    "v7_diagnosis:lungs=true": ({}, {}, {}),  # The paper's future work.
    "covid19_ct:target=lungs": ({}, {}, {}),
}


@pytest.mark.parametrize("spec", list(PRINTED))
def test_the_numbers_beside_ours_are_the_papers(spec):
    paper = config_file.load(config_file.resolve(spec)).paper.to_dict()
    assert (paper["train"], paper["validation"], paper["test"]) == PRINTED[spec]
    assert paper["note"]


@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_config_that_was_copied_elsewhere_is_the_same(name, tmp_path, monkeypatch):
    copy = shutil.copy(config_file.shipped_configs()[name], tmp_path / "mine.py")
    monkeypatch.chdir(tmp_path)
    for arg in VARIANTS[name]:
        assert config_file.load(f"{copy}:{arg}") == config_file.load(
            config_file.resolve(f"{name}:{arg}")
        )


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_field_is_there_and_nothing_can_be_added(name):
    config = config_file.load(config_file.resolve(name))
    assert set(defaults.make_config()) < set(config)
    assert config.is_locked
    assert all(config[section].is_locked for section in ("model", "task", "control", "paper"))


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_field_is_plain_and_literal(name):
    config = config_file.load(config_file.resolve(name)).to_dict()
    sections = [value for value in config.values() if isinstance(value, dict)]
    values = list(itertools.chain.from_iterable(section.values() for section in sections))
    plain = (bool, int, float, str, tuple, dict)
    assert all(isinstance(value, plain) for value in values)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("covidqu", 31_036_482),  # the original U-Net's widths; by hand in models/unet_test.py
        ("covidqu_residual", 31_736_834),
        ("cxr_lungs", 99_587),  # and two statistics: 99,589 in Figure 2 of Bartels et al.
        # Zhang gives no numbers; by hand in models/v7_unet_test.py and diagnosis_cnn_test.py.
        ("v7_lungs", 31_032_837),
        ("v7_diagnosis", 14_027_841),
        # Nor do Lin and Huang; by hand in models/fv_paspp_unet_test.py.
        ("covid19_ct:attention=none,paspp=false,deep_supervision=false", 5_680_385),
        ("covid19_ct:paspp=false,deep_supervision=false", 13_464_340),
        ("covid19_ct:attention=ce,paspp=false,deep_supervision=false", 13_428_839),
        ("covid19_ct:deep_supervision=false", 14_072_596),
        ("covid19_ct", 14_072_790),
        ("covid19_ct:attention=ce", 14_037_289),
    ],
)
def test_each_systems_network_has_its_published_size(name, parameters):
    spec = name if ":" in name else f"{name}:"
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract_state(spec).params)) == parameters
