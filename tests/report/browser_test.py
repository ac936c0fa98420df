"""Pages in headless Chromium: quiet, self-contained, readable on a phone, in the dark, in print."""

import functools
import io

import numpy as np
import pytest
from etils import epath
from PIL import Image

from jaxlung.report import page
from tests import made_study
from tests.report import browser, page_test, volume_run

pytestmark = pytest.mark.skipif(browser.find() is None, reason="no Chromium on PATH")
PHONE, DESK = 400, 1200  # pixels
PAGES = ("diagnosis", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mask", "volumes")))
# Of every element with text of its own: its colour and what is behind it.
COLOURS = """
[...document.body.querySelectorAll("*")].filter(
  element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
).map(element => {
  let behind = element;
  while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)")
    behind = behind.parentElement;
  const numbers = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
  return [element.outerHTML.slice(0, 60), numbers(getComputedStyle(element).color),
          numbers(getComputedStyle(behind).backgroundColor)];
})
"""
IMAGES = """
[...document.images].map(image => ({alt: image.alt, width: image.naturalWidth,
                                    source: image.currentSrc}))
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    opened = browser.Browser(browser.find(), tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def write_report(path, task):
    page_test.write_run(path, task)
    page.build(path)


def write_volumes(path):
    for split in ("train", "test"):
        volume_run.write_summary(path, split)
        volume_run.write_scores(path, split)
    volume_run.write_planes(path)
    page.build(path)


def write_study(path):
    long = "a_name_that_does_not_fit_into_one_line_of_a_phone" * 2
    made_study.write_page(path, evil=long, images=made_study.make_images())


WRITERS = {
    "diagnosis": (functools.partial(write_report, task="diagnosis"), "report.html"),
    "mask": (functools.partial(write_report, task="mask"), "report.html"),
    "volumes": (write_volumes, "report.html"),
    "study": (write_study, "study.html"),
}


@pytest.fixture(scope="module", params=(*PAGES, "study"))
def opened(request, chromium, tmp_path_factory):
    path = epath.Path(tmp_path_factory.mktemp("my [1] page"))
    write, name = WRITERS[request.param]
    write(path)
    return browser.Page(chromium, path / name)


@pytest.fixture
def open_text(chromium, tmp_path):
    def write_and_open(body):
        path = tmp_path / "page.html"
        head = '<!doctype html><meta name="viewport" content="width=device-width">'
        path.write_text(f"{head}<title>a page</title><body>{body}</body>")
        return browser.Page(chromium, path)

    return write_and_open


def width_of(shown):
    return shown.evaluate("document.documentElement.scrollWidth")


def test_the_page_says_nothing_and_asks_for_nothing(opened):
    for width, scheme in ((PHONE, "light"), (DESK, "dark")):
        opened.show(width, scheme)
    assert opened.complaints() == []
    assert opened.requests() == []


@pytest.mark.parametrize("width", [320, PHONE, 800, DESK])
def test_nothing_is_wider_than_the_screen(opened, width):
    opened.show(width, "light")
    assert opened.evaluate("innerWidth") == width
    assert width_of(opened) <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_picture_is_shown_and_said_in_words(opened, scheme):
    opened.show(PHONE, scheme)
    images = opened.evaluate(IMAGES)
    assert images
    for image in images:
        assert len(image["alt"]) > 20
        assert image["width"] > 1000


def test_charts_change_with_the_scheme(opened):
    sources = []
    for scheme in ("light", "dark"):
        opened.show(PHONE, scheme)
        sources.append([image["source"] for image in opened.evaluate(IMAGES)])
    assert any(light != dark for light, dark in zip(*sources, strict=True))


def luminance(colour):
    """Relative luminance of sRGB in 0 to 255 (WCAG 2.2)."""
    shares = np.array(colour) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(opened, scheme):
    opened.show(DESK, scheme)
    colours = opened.evaluate(COLOURS)
    assert len(colours) > 30
    for text, front, back in colours:
        low, high = sorted([luminance(front), luminance(back)])
        assert (high + 0.05) / (low + 0.05) >= 4.5, text  # WCAG's level AA.
        assert (luminance(front) > luminance(back)) == (scheme == "dark"), text


def test_the_screen_is_bright_in_the_light_and_dark_in_the_dark(opened):
    medians = []
    for scheme in ("light", "dark"):
        opened.show(PHONE, scheme)
        with Image.open(io.BytesIO(opened.screenshot())) as picture:
            assert picture.size == (PHONE, 900)
            medians.append(np.median(np.asarray(picture.convert("L"))))
    assert medians[0] > 230
    assert medians[1] < 40


def test_the_page_can_be_printed(opened):
    opened.show(DESK, "dark")
    printed = opened.print()
    assert printed.startswith(b"%PDF-")
    assert len(printed) > 20_000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<script>console.error('one')</script>", "one"),
        ("<script>console.warn('two')</script>", "two"),
        ("<script>throw new Error('three')</script>", "Uncaught"),
        ("<script>Promise.reject(new Error('four'))</script>", "Uncaught"),
        ("<img src='http://example.invalid/a.png'>", "ERR_NAME_NOT_RESOLVED"),
    ],
)
def test_a_page_that_complains_is_noticed(open_text, body, message):
    complaints = open_text(body).complaints()
    assert len(complaints) == 1
    assert message in complaints[0]


@pytest.mark.parametrize(
    "body",
    [
        "<img src='http://example.invalid/a.png'>",
        "<link rel='stylesheet' href='http://example.invalid/a.png'>",
        "<style>body { background: url(http://example.invalid/a.png); }</style>",
        "<iframe src='http://example.invalid/a.png'></iframe>",
        "<script>fetch('http://example.invalid/a.png').catch(() => 0)</script>",
    ],
)
def test_a_page_that_asks_for_others_is_noticed(open_text, body):
    assert open_text(body).requests() == ["http://example.invalid/a.png"]


def test_a_file_beside_the_page_is_noticed(open_text):
    (asked,) = open_text("<img src='beside.png'>").requests()
    assert asked.endswith("/beside.png")


def test_a_page_that_is_too_wide_is_noticed(open_text):
    shown = open_text("<div style='width: 500px'>wide</div>")
    shown.show(PHONE, "light")
    assert width_of(shown) > PHONE


def test_a_quiet_page_has_nothing_to_notice(open_text):
    shown = open_text("<p>quiet</p><script>console.log('five')</script>")
    shown.show(PHONE, "light")
    assert shown.complaints() == shown.requests() == []
    assert width_of(shown) == PHONE
