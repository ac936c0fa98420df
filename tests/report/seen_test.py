"""What a network sees, beside the whole X-ray."""

import io

import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxlung.report import figures, pictures, seen

IMAGE = np.arange(2 * 16 * 16, dtype=np.uint8).reshape(2, 16, 16)


def arrays(**changes):
    content = {
        "image": IMAGE,
        "seen": np.float32(IMAGE[:, 3:, 2:-1]) / 255,
        "kind": np.array(["other", "COVID-19"]),
        "image_id": np.array(["a", "$_b_ \u6b63"]),
    }
    return content | changes


@pytest.fixture
def workdir(tmp_path):
    return epath.Path(tmp_path)


def test_both_are_drawn_with_pixels_of_one_size(workdir):
    np.savez(workdir / "seen_test.npz", **arrays())
    figure = seen.draw(seen.load(workdir))
    assert len(figure.axes) == 4
    assert {axes.get_xlim() for axes in figure.axes} == {(-0.5, 15.5)}
    whole, cut = (axes.get_images()[0].get_array() for axes in figure.axes[:2])
    np.testing.assert_array_equal(whole, IMAGE[0])
    np.testing.assert_allclose(cut, IMAGE[0, 3:, 2:-1] / 255)
    assert Image.open(io.BytesIO(figures.to_png(figure))).width > 500


def test_the_picture_says_what_is_left(workdir):
    assert pictures.draw_seen(workdir) is None
    np.savez(workdir / "seen_test.npz", **arrays())
    alt = pictures.draw_seen(workdir).alt
    assert "COVID-19" in alt
    assert alt.endswith("the network's view of it, 13 x 13 pixels.")
    assert (workdir / "figures/seen.png").exists()


@pytest.mark.parametrize(
    "changes", [dict(seen=np.zeros(3)), dict(kind=np.array("other")), dict(image=IMAGE[:1])]
)
def test_arrays_that_do_not_fit_are_an_error_that_names_the_file(workdir, changes):
    np.savez(workdir / "seen_test.npz", **arrays(**changes))
    with pytest.raises(ValueError, match=r"seen_test\.npz: want as many images"):
        seen.load(workdir)


def test_a_file_that_lacks_an_array_is_an_error_that_names_it(workdir):
    content = arrays()
    del content["seen"]
    np.savez(workdir / "seen_test.npz", **content)
    with pytest.raises(ValueError, match=r"seen_test\.npz: want an \.npz with image, seen"):
        seen.load(workdir)
