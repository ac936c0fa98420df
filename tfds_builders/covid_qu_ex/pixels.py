"""Decodes and checks the files of one sample, and stores them as plain 8-bit grey PNG."""

from PIL import Image

from tfds_builders import png, raw_tree
from tfds_builders.covid_qu_ex import layout


def load(tree: raw_tree.RawTree, sample: layout.Sample) -> dict[str, bytes]:
    """Reads one sample.

    Returns:
        Bytes of PNG files, mode L: `image`, `lung_mask` and `infection_mask`. Masks have 0 and 255;
        an absent infection mask becomes all 0.

    Raises:
        ValueError: a file that can't be decoded, has more than 8 bits a channel, or a mask of
            another size than its image.
    """
    image = png.decode(tree, sample.image)
    lungs = png.decode_mask(tree, sample.lung_mask, image.size)
    infection = Image.new("L", image.size)
    if sample.infection_mask is not None:
        infection = png.decode_mask(tree, sample.infection_mask, image.size)
    planes = {"image": image, "lung_mask": lungs, "infection_mask": infection}
    return {name: png.encode(plane) for name, plane in planes.items()}
