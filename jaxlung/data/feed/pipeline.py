"""Opens the feed from a source to the device; both feeds give the same batches."""

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.feed import feed as feed_lib
from jaxlung.data.feed import patches, resident, stream
from jaxlung.parallel import sharding


def open_feed(
    source: record.Source, settings: settings_lib.Settings, shardings: sharding.Shardings, name: str
) -> feed_lib.Feed:
    """Opens the feed that `settings.placement` names for one split.

    Args:
        source: records of one split.
        settings: size of examples and batches, and where they are kept.
        shardings: places of arrays on the devices.
        name: name of the split, for messages.

    Raises:
        ValueError: the split is empty.
    """
    if not len(source):
        raise ValueError(f"split {name!r}: got nothing, want at least one image or volume.")
    if isinstance(settings, settings_lib.PatchSettings):
        return patches.open_feed(source, settings, shardings, name)
    on_device = settings.placement == "device" or (
        settings.placement == "auto" and resident.fits(2 * len(source) * settings.image_size**2)
    )
    where = resident if on_device else stream
    return feed_lib.Feed(
        num_examples=len(source),
        example=where.item_specs(settings),
        is_resident=on_device,
        store=where.load_store(source, settings, shardings, name),
        take=where.take,
        items=where.make_items(source, settings, shardings),
    )
