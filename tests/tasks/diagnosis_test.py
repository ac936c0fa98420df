"""Yes or no for a whole X-ray."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from sklearn import metrics

from jaxlung.config import config_file
from jaxlung.data import record
from jaxlung.data.feed import order, pipeline
from jaxlung.data.transforms import preprocess
from jaxlung.tasks import diagnosis
from jaxlung.training import system as system_lib
from tests import array_source


def make_task(lungs="none", crop_pixels=(0, 0, 0), threshold=0.5):
    return diagnosis.make_task(lungs=lungs, crop_pixels=crop_pixels, threshold=threshold)


def draw(size=16, seed=0):
    np_rng = np.random.default_rng(seed)
    images = np_rng.random((3, size, size, 1)).astype(np.float32)
    return images, np_rng.integers(0, 4, (3, size, size)).astype(np.uint8)


class InputsTest(parameterized.TestCase):
    def test_the_papers_crop_takes_10_off_the_top_and_both_sides(self):
        images, masks = draw(256)
        got = make_task(crop_pixels=(10, 10, 10)).inputs(images, masks)
        assert got.shape == (3, 246, 236, 1)
        for corner, place in {
            (0, 0): (10, 10),
            (0, 235): (10, 245),
            (245, 0): (255, 10),
            (245, 235): (255, 245),
        }.items():
            np.testing.assert_array_equal(got[:, *corner], images[:, *place])

    def test_the_papers_other_crop_takes_20_off_the_top_and_the_left(self):
        images, masks = draw(256)
        got = make_task(crop_pixels=(20, 20, 0)).inputs(images, masks)
        np.testing.assert_array_equal(got, images[:, -236:, -236:])

    @parameterized.parameters("predicted", "true")
    def test_nothing_outside_the_lungs_is_seen_and_all_inside_is(self, lungs):
        images, masks = draw()
        outside = ((masks & record.LUNG) == 0)[..., None]
        other = draw(seed=1)[0]
        see = jax.jit(make_task(lungs, crop_pixels=(2, 2, 2)).inputs)
        want = see(images, masks)
        np.testing.assert_array_equal(see(np.where(outside, other, images), masks), want)
        changed = np.asarray(see(np.where(outside, images, other), masks)) != want
        np.testing.assert_array_equal(changed, ~outside[:, 2:, 2:-2])

    def test_not_even_the_scale_of_the_image_tells_what_lies_outside(self):
        _, masks = draw()
        levels = np.random.default_rng(2).integers(50, 150, masks.shape).astype(np.uint8)
        brighter = np.where(masks & record.LUNG, levels, 255).astype(np.uint8)
        see = make_task("true").inputs
        got, want = (see(preprocess.min_max_scale(x), masks) for x in (brighter, levels))
        np.testing.assert_allclose(got, want, atol=1e-5)
        assert np.max(got) == pytest.approx(1)

    def test_an_image_without_lungs_is_black(self):
        images, masks = draw()
        np.testing.assert_array_equal(make_task("true").inputs(images, 0 * masks), 0 * images)

    def test_without_lungs_the_mask_plays_no_part(self):
        images, masks = draw()
        got = make_task("none").inputs(images, 0 * masks)
        np.testing.assert_array_equal(got, images)

    def test_a_crop_that_leaves_nothing_is_an_error(self):
        for crop in ((16, 0, 0), (0, 8, 8), (0, 16, 0)):
            with pytest.raises(ValueError, match=r"task.crop_pixels: got .* images of 16 pixels"):
                make_task(crop_pixels=crop).inputs(*draw())
        assert make_task(crop_pixels=(15, 8, 7)).inputs(*draw()).shape == (3, 1, 1, 1)


class ScoresTest(parameterized.TestCase):
    def test_targets_and_levels_are_the_labels(self):
        task, masks = make_task(), draw()[1]
        labels = jnp.array([0, 1, 1], jnp.uint8)
        np.testing.assert_array_equal(task.true_levels(masks, labels), [[[0]], [[1]], [[1]]])
        targets = task.targets(masks, labels)
        np.testing.assert_array_equal(targets, [[[[0]]], [[[1]]], [[[1]]]])
        assert targets.dtype == np.float32
        one = task.true_levels(masks[:1], np.array([1]))
        assert isinstance(one, np.ndarray)
        assert one.shape == (1, 1, 1)

    @parameterized.parameters((0.5, [0, 0, 1, 1]), (0.8, [0, 0, 0, 1]), (0.0, [0, 0, 1, 1]))
    def test_a_yes_is_above_the_threshold_and_0_stands_for_one_half(self, threshold, want):
        probs = np.array([0.1, 0.5, 0.6, 0.9], np.float32).reshape(4, 1, 1, 1)
        got = make_task(threshold=threshold).postprocess(probs)
        np.testing.assert_array_equal(got.ravel(), want)

    def test_scores_are_sklearns(self):
        np_rng = np.random.default_rng(0)
        true, preds = np_rng.integers(0, 2, (2, 40))
        got = diagnosis.scores(metrics.confusion_matrix(true, preds))
        want = {
            "accuracy": metrics.accuracy_score(true, preds),
            "sensitivity": metrics.recall_score(true, preds),
            "specificity": metrics.recall_score(true, preds, pos_label=0),
            "precision": metrics.precision_score(true, preds),
            "f1": metrics.f1_score(true, preds),
        }
        assert {name: got[name] for name in want} == pytest.approx(want)

    def test_without_a_class_its_share_found_is_unknown(self):
        got = diagnosis.scores(np.array([[[5, 1], [0, 0]], [[0, 0], [1, 3]]]))
        np.testing.assert_array_equal(np.isnan(got["sensitivity"]), [True, False])
        np.testing.assert_array_equal(np.isnan(got["specificity"]), [False, True])
        np.testing.assert_allclose(got["accuracy"], [5 / 6, 3 / 4])

    @parameterized.parameters(
        (dict(lungs="left"), "task.lungs: got 'left', want one of none, predicted, true"),
        (dict(crop_pixels=10), "task.crop_pixels: got 10, want three counts"),
        (dict(crop_pixels=(10,)), r"task.crop_pixels: got \(10,\), want three counts"),
        (dict(crop_pixels=(10, -1, 0)), r"task.crop_pixels: got \(10, -1, 0\), want three counts"),
        (dict(crop_pixels=(10, 0.5, 0)), "task.crop_pixels: got .*, want three counts"),
        (dict(threshold=1.0), "task.threshold: got 1.0, want a number between 0 and 1"),
        (dict(threshold=float("nan")), "task.threshold: got nan"),
    )
    def test_settings_that_can_not_be_are_errors(self, changes, message):
        with pytest.raises(ValueError, match=message):
            make_task(**changes)


def test_a_network_learns_labels_and_not_masks():
    """Through pipeline and steps: images are alike but for a bright spot in those of label 1."""
    config = config_file.load(config_file.resolve("covidqu:quick"))
    config.task_name, config.model_name = "diagnosis", "diagnosis_cnn"
    config.optimizer.learning_rate = 0.01
    with config.unlocked():
        config.task = dict(lungs="true", crop_pixels=(2, 2, 2), threshold=0.5)
        config.model = dict(filters=(4,), dense=8, in_channels=1, dtype="float32")
    system = system_lib.make_system(config)
    source = array_source.ArraySource(16)
    feed = pipeline.open_feed(source, system.settings, system.shardings, "train")
    state, step_fn = system.init_state(), system.jit_train_step(feed.take)
    for item in feed.items(order.shuffled(0, 16), 4, order.one_by_one(0, 60)):
        state, metrics = step_fn(state, feed.store, item, system.seed)
    assert metrics["confusion"].sum() == 4
    for batch in feed.batches(order.in_turn(16), 4, 4):
        output = system.eval_step(state, batch)
        np.testing.assert_array_equal(output["levels"].ravel(), batch["labels"])
        np.testing.assert_array_equal(output["preds"].ravel(), batch["labels"])
        assert output["probs"].shape == (4, 1, 1)
