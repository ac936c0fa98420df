"""Members of an ensemble on several devices: results, compiled programs, the order of work."""

import concurrent.futures
import contextlib
import dataclasses
import math
from typing import Any

import jax
import numpy as np
import pytest

from jaxlung.parallel import sharding
from jaxlung.predict import ct_ensemble, ensemble, network, picture_work
from jaxlung.training import system as system_lib
from tests import array_source, volume_source
from tests.predict import networks

# More than a batch, and no multiple of one.
IMAGES = [array_source.ArraySource(1, size=s, seed=s)[0].image for s in (32, 45, 24, 40, 33, 50)]
CT = volume_source.VolumeSource([(6, 20, 18)])[0]


def save(tmp_path_factory, role, number, **changes):
    config = networks.make_config(role, seed=number, **changes)
    return networks.save_run(tmp_path_factory.mktemp(role), config, bias=0.5)


@pytest.fixture(scope="module")
def lungs(tmp_path_factory):
    return [save(tmp_path_factory, "lung", number) for number in range(4)]


@pytest.fixture(scope="module")
def diagnosis(tmp_path_factory):
    return save(tmp_path_factory, "diagnosis", 0, **{"task.threshold": 0.5})


def load(paths, num_devices, monkeypatch):
    if jax.device_count() < num_devices:
        pytest.skip("fewer devices")
    with monkeypatch.context() as patch:
        patch.setattr(sharding, "visible_devices", lambda: jax.devices()[:num_devices])
        return ensemble.gather(network.load_all(paths))


@dataclasses.dataclass
class Picture:
    image: np.ndarray


def predict(team):
    """Returns the raw outputs of all members for all images."""
    forms = {member.input_form: member for member in team.members if not member.needs_lungs}
    ready = [
        picture_work.Ready(Picture(x), {form: m.fit(x) for form, m in forms.items()})
        for x in IMAGES
    ]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return picture_work.predict(team, ready, None, pool)


@contextlib.contextmanager
def counting_programs():
    """Yields a list of the networks' programs that JAX compiles."""
    names = []

    def listen(event, *_, fun_name="", **__):
        if event == "/jax/core/compile/backend_compile_duration" and "predict" in fun_name:
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("num_devices", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_every_device_has_the_same_work_on_the_fewest_parts_of_a_batch(
    count, num_devices, monkeypatch
):
    monkeypatch.setattr(sharding, "visible_devices", lambda: list(range(num_devices)))
    groups = sharding.share_out(count)
    assert [device for group in groups for device in group] == list(range(num_devices))
    work = np.zeros(num_devices)
    for member in range(count):
        group = groups[member % len(groups)]
        work[group] += 1 / len(group)  # A device's share of each batch.
    np.testing.assert_allclose(work, count / num_devices)
    # No larger number of groups divides both, which makes every device's work the same.
    larger = range(len(groups) + 1, min(count, num_devices) + 1)
    assert not [n for n in larger if count % n == 0 and num_devices % n == 0]


@pytest.mark.parametrize(("count", "num_devices"), [(4, 2), (4, 4)])
def test_members_on_devices_of_their_own_find_what_they_find_on_one(
    lungs, count, num_devices, monkeypatch
):
    one, several = (load(lungs[:count], n, monkeypatch) for n in (1, num_devices))
    assert [len(member.devices) for member in several.members] == [1] * count
    assert len({member.devices for member in several.members}) == num_devices
    raws = zip(predict(one), predict(several), strict=True)
    for want, got in raws:
        for member, other in zip(one.members, several.members, strict=True):
            np.testing.assert_array_equal(got[other], want[member])


def test_members_that_share_devices_agree_with_one_device(lungs, monkeypatch):
    one, four = (load(lungs[:2], n, monkeypatch) for n in (1, 4))
    assert [len(member.devices) for member in four.members] == [2, 2]
    for want, got in zip(predict(one), predict(four), strict=True):
        for member, other in zip(one.members, four.members, strict=True):
            np.testing.assert_allclose(got[other], want[member], atol=1e-6)


def test_outputs_of_an_ensemble_are_those_of_each_network_alone(lungs, monkeypatch):
    team = load(lungs[:2], 1, monkeypatch)
    raws = predict(team)
    for member in team.members:
        with monkeypatch.context() as patch:
            patch.setattr(sharding, "visible_devices", lambda: jax.devices()[:1])
            alone = network.load(member.path)
        for raw, image in zip(raws, IMAGES, strict=True):
            got = member.unfit(raw[member], image.shape)
            np.testing.assert_array_equal(got, alone.probs(image))


@pytest.mark.parametrize(("num_devices", "want"), [(1, 1), (2, 2), (4, 4)])
def test_members_of_one_form_are_compiled_once_for_each_device(
    lungs, num_devices, want, monkeypatch
):
    team = load(lungs, num_devices, monkeypatch)
    with counting_programs() as compiled:
        predict(team)
        predict(team)
    assert len(compiled) == want


@dataclasses.dataclass
class Run:
    config: Any
    system: system_lib.System


def program_of(role="diagnosis", temperature=1.0, **changes):
    config = networks.make_config(role, **changes)
    return network._program(
        Run(config, system_lib.make_system(config).with_temperature(temperature))
    )


def test_members_of_other_folds_seeds_and_thresholds_share_a_program():
    fold = {"data.fold": 1, "data.folds": 5, "seed": 3, "task.threshold": 0.4, "data.resize": "pad"}
    assert program_of(**fold) == program_of()


@pytest.mark.parametrize(
    "change",
    [
        {"model.dense": 8},
        {"task.crop_pixels": (1, 2, 3)},
        {"data.image_size": 36},
        {"data.eval_batch_size": 4},
        {"temperature": 1.5},
        {"role": "lung"},
    ],
)
def test_what_changes_outputs_changes_the_program(change):
    assert program_of(**change) != program_of()


def test_another_window_is_another_program():
    assert program_of("ct_lung", window_hu=(-1000.0, 400.0)) != program_of("ct_lung")


def test_a_picture_is_resized_once_for_members_of_one_size(lungs, diagnosis, monkeypatch):
    team = load([*lungs[:2], diagnosis], 1, monkeypatch)
    fitted = []
    fit = network.Network.fit
    monkeypatch.setattr(
        network.Network, "fit", lambda self, *args: fitted.append(self) or fit(self, *args)
    )
    raws = predict(team)
    assert len(fitted) == 2 * len(IMAGES)  # For two lung networks, and for the diagnosis.
    assert all(set(raw) == set(team.members) for raw in raws)


def test_all_networks_have_their_work_before_any_output_is_waited_for(lungs, monkeypatch):
    team = load(lungs, 1, monkeypatch)
    done = []
    queue, fetch = network.Network.queue, network.fetch
    monkeypatch.setattr(
        network.Network, "queue", lambda *args: done.append("queue") or queue(*args)
    )
    monkeypatch.setattr(network, "fetch", lambda *args: done.append("fetch") or fetch(*args))
    predict(team)
    assert done == ["queue"] * 4 + ["fetch"] * 4


@pytest.mark.slow
def test_members_for_cts_find_on_two_devices_what_they_find_on_one(tmp_path_factory, monkeypatch):
    runs = [save(tmp_path_factory, "ct_lung", number) for number in range(4)]
    found = [
        ct_ensemble.find(team.ensembles["lung"], CT, None, keep_probs=True)
        for team in (load(runs, num_devices, monkeypatch) for num_devices in (1, 2))
    ]
    one, two = map(dataclasses.asdict, found)
    assert not math.isnan(one["disagreement"])
    assert one["preds"].any()
    for name, want in one.items():
        np.testing.assert_equal(two[name], want)


@pytest.mark.parametrize(
    ("devices", "want"),
    [
        ("a", "prepare find mask"),
        ("aaa", "prepare find mask find mask find mask"),
        ("abab", "prepare find find mask mask find find mask mask"),
    ],
)
def test_members_on_one_device_take_turns_and_others_work_side_by_side(devices, want):
    """On one device there is the map of one member at a time: a map may have a gigabyte."""
    done = []

    class Member:
        input_form = ()

        def __init__(self, device):
            self.devices = (device,)

        def prepare(self, item):
            done.append("prepare")
            return item

        def find_in_volume(self, item, *, whole, prepared):
            assert whole
            assert prepared is item
            done.append("find")

        def mask_of(self, found):
            del found
            done.append("mask")

    members = tuple(map(Member, devices))
    list(ct_ensemble._find_each(ensemble.Ensemble(members, members[0]), CT))
    assert done == want.split()
