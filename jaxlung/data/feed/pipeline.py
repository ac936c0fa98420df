"""From a source to batches on the device, by either road; the same batches by both."""

from jaxlung.data import record
from jaxlung.data import settings as settings_lib
from jaxlung.data.feed import feed as road_lib
from jaxlung.data.feed import patches, resident, stream
from jaxlung.parallel import sharding


def open_road(
    source: record.Source, settings: settings_lib.Settings, shardings: sharding.Shardings, name: str
) -> road_lib.Road:
    """Opens the road that `settings.placement` names for one split.

    Args:
        source: the records.
        settings: how they become batches.
        shardings: where arrays live.
        name: of the split, for messages.

    Raises:
        ValueError: the split is empty.
    """
    if not len(source):
        raise ValueError(f"split {name!r}: got nothing, want at least one image or volume.")
    if isinstance(settings, settings_lib.PatchSettings):
        return patches.open_road(source, settings, shardings, name)
    on_device = settings.placement == "device" or (
        settings.placement == "auto" and resident.fits(2 * len(source) * settings.image_size**2)
    )
    road = resident if on_device else stream
    return road_lib.Road(
        num_examples=len(source),
        store=road.load_store(source, settings, shardings, name),
        take=road.take,
        items=road.make_items(source, settings, shardings),
    )
