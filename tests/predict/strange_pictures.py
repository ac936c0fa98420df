"""Twenty pictures that are no frontal chest X-rays, and what a network's lungs on them look like.

Prints a line per picture, and per file that is named (real ones, for example):

    python -m tests.predict.strange_pictures NETWORK [CHEST.png] [FILE ...]

NETWORK is a run's folder or an exported file of a network that finds lungs on X-rays. CHEST.png is
a frontal chest X-ray, from which some of the pictures are made; a generated one by default.
"""

import sys

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from jaxlung.predict import network, pictures, plausible
from tfds_builders.phantoms import chest_ct, chest_xray

SIZE = 256
MOST_PIXELS = 10**8


def make(chest):
    """Returns 20 pictures [H, W] uint8 by name, some made from an X-ray [H, W] uint8."""
    np_rng = np.random.default_rng(0)
    rows, columns = np.indices((SIZE, SIZE)) / SIZE
    height, width = chest.shape
    ct = chest_ct.make(np_rng, (64, 96, 96), (4.0, 3.5, 3.5), 0.1).image
    far = np.zeros((2 * height, 2 * width), np.uint8)
    far[:height, :width] = chest
    return {
        "black": np.zeros((SIZE, SIZE), np.uint8),
        "white": np.full((SIZE, SIZE), 255, np.uint8),
        "noise": np_rng.integers(0, 256, (SIZE, SIZE)).astype(np.uint8),
        "gradient": (255 * columns).astype(np.uint8),
        "chequers": np.uint8(255)
        * ((8 * rows).astype(np.uint8) + (8 * columns).astype(np.uint8) & 1),
        "text": text(),
        "landscape": landscape(np_rng),
        "face": face(),
        "CT slice": ct_slice(ct),
        "lateral view": lateral(ct),
        "inverted": 255 - chest,
        "turned left": np.rot90(chest).copy(),
        "turned right": np.rot90(chest, -1).copy(),
        "upside down": np.rot90(chest, 2).copy(),
        "upper left quarter": chest[: height // 2, : width // 2].copy(),
        "lower half": chest[height // 2 :].copy(),
        "right half": chest[:, : width // 2].copy(),
        "two side by side": np.hstack([chest, chest]),
        "squeezed": chest[:, ::4].copy(),
        "far away": far,
    }


def text():
    """A page of words."""
    image = Image.new("L", (SIZE, SIZE), 255)
    lines = "\n".join("Findings: no focal consolidation, no effusion." for _ in range(14))
    ImageDraw.Draw(image).multiline_text((10, 10), lines, fill=0)
    return np.asarray(image)


def landscape(np_rng):
    """Hills under a sky with clouds."""
    clouds = ndimage.gaussian_filter(np_rng.standard_normal((SIZE, SIZE)), 12)
    image = 190 + 500 * clouds
    for depth in range(4):
        hills = np.cumsum(np_rng.standard_normal(SIZE)) + SIZE * (0.4 + 0.15 * depth)
        image[np.arange(SIZE)[:, None] > hills] = 140 - 30 * depth
    return np.clip(image, 0, 255).astype(np.uint8)


def face():
    """Two dark eyes and a mouth on a bright oval."""
    image = Image.new("L", (SIZE, SIZE), 60)
    draw = ImageDraw.Draw(image)
    draw.ellipse((48, 16, 208, 240), fill=210)
    draw.ellipse((84, 90, 112, 110), fill=30)
    draw.ellipse((144, 90, 172, 110), fill=30)
    draw.rectangle((104, 180, 152, 190), fill=60)
    return np.asarray(image)


def ct_slice(ct):
    """The middle slice of a CT [D, H, W] in HU, through the lung window."""
    return np.interp(ct[len(ct) // 2], [-1250, 250], [0, 255]).astype(np.uint8)


def lateral(ct):
    """A CT seen from its side, as on an X-ray."""
    density = np.clip(ct + 1000.0, 0, None).sum(axis=2)[::-1]
    return (255 * density / density.max()).astype(np.uint8)


def chest():
    """A generated frontal chest X-ray."""
    return chest_xray.make(np.random.default_rng(0), SIZE, "none").image


def doubts(net, image):
    """Returns what is unusual about the lungs that a network finds on a picture."""
    probs = net.probs(image)
    return plausible.doubts(net.preds(probs) > 0, probs)


def main(argv):
    """Prints a line per picture."""
    net = network.load(argv[0])
    frontal = pictures.read(argv[1], MOST_PIXELS).image if len(argv) > 1 else chest()
    files = {path: pictures.read(path, MOST_PIXELS).image for path in argv[2:]}
    for name, image in ({"frontal": frontal} | make(frontal) | files).items():
        print(f"{name}: {'; '.join(doubts(net, image)) or 'nothing unusual'}")


if __name__ == "__main__":
    main(sys.argv[1:])
