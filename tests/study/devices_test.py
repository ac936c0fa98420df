"""Devices found with stand-ins for the machine, and shared out to runs."""

import importlib.metadata
import importlib.util
import os
import tempfile

import ml_collections as mlc
import pytest

from jaxlung.study import devices


def make_config(data=-1, space=1, batch_size=8):
    mesh = {"data": data, "space": space}
    return mlc.ConfigDict({"mesh": mesh, "data": {"batch_size": batch_size}})


@pytest.fixture(autouse=True)
def _locks_are_closed(monkeypatch):
    files, lock = [], devices._lock
    monkeypatch.setattr(devices, "_lock", lambda uuid: files.append(lock(uuid)) or files[-1])
    yield
    for file in files:
        file.close()


@pytest.fixture
def cuda(monkeypatch, tmp_path):
    """A machine with JAX's plug-in for CUDA, and an `nvidia-smi` that lists four GPUs."""
    entry = importlib.metadata.EntryPoint("xla_cuda13", "x", "jax_plugins")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    lines = "\n".join(f"GPU {number}: NVIDIA H200 (UUID: GPU-{number}a)" for number in range(4))
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\ncat <<END\n{lines}\n  MIG 1g.18gb Device 0: (UUID: MIG-1)\nEND\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def tpu(monkeypatch):
    """A TPU host with eight v5e chips."""
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(devices.glob, "glob", lambda pattern: [f"/pci/{x}" for x in range(9)])

    def read(file):
        if file.startswith("/pci/0/"):
            return "0x8086"
        return {"vendor": "0x1ae0", "device": "0x0063"}[file.split("/")[-1]]

    monkeypatch.setattr(devices, "_read", read)


def take_all(pool, config):
    places = []
    while place := pool.take(config):
        places.append(place)
    return places


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    ("environ", "settings", "want"),
    [
        ({}, {}, ["0", "1", "2", "3"]),
        ({}, {"devices_per_run": 2}, ["0,1", "2,3"]),
        ({}, {"devices_per_run": 3}, ["0,1,2"]),
        ({}, {"at_once": 2}, ["0", "1"]),
        ({"CUDA_VISIBLE_DEVICES": "3,GPU-1a"}, {}, ["3", "GPU-1a"]),
        ({"JAX_PLATFORMS": "cuda"}, {}, ["0", "1", "2", "3"]),
        ({"JAX_PLATFORMS": "cuda,cpu"}, {}, ["0", "1", "2", "3"]),
    ],
)
def test_each_run_sees_gpus_of_its_own(environ, settings, want):
    pool = devices.find(environ, **settings)
    places = take_all(pool, make_config())
    assert [place.environ["CUDA_VISIBLE_DEVICES"] for place in places] == want
    orders = {place.environ.get("CUDA_DEVICE_ORDER") for place in places}
    assert orders == {None if "CUDA_VISIBLE_DEVICES" in environ else "PCI_BUS_ID"}
    assert not any(place.cores for place in places)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    ("mesh", "want"),
    [
        ({"data": 2}, ["0,1", "2,3"]),
        ({"data": 1}, ["0", "1", "2", "3"]),
        ({"space": 2}, ["0,1", "2,3"]),
        ({"data": 2, "space": 2}, ["0,1,2,3"]),
    ],
)
def test_a_runs_mesh_says_how_many_devices_it_needs(mesh, want):
    places = take_all(devices.find({}), make_config(**mesh))
    assert [",".join(place.ids) for place in places] == want
    assert devices.find({}, devices_per_run=3).count(make_config(space=2)) == 4


@pytest.mark.usefixtures("cuda")
def test_devices_that_are_given_back_are_taken_again():
    pool = devices.find({})
    places = take_all(pool, make_config())
    pool.give_back(places[2])
    pool.give_back(places[1])
    assert pool.take(make_config(data=4)) is None
    assert pool.take(make_config(data=2)).name == "GPU 1, 2"
    assert pool.take(make_config()) is None


@pytest.mark.usefixtures("cuda")
def test_gpus_that_another_command_has_are_left_alone():
    others = take_all(devices.find({}, at_once=2), make_config())
    assert [place.name for place in others] == ["GPU 0", "GPU 1"]
    here = devices.find({"CUDA_VISIBLE_DEVICES": "GPU-0a,1,2,3"})
    place = here.take(make_config())
    assert place.name == "GPU 2"
    here.give_back(place)
    others[0].let_go()
    assert [place.name for place in take_all(here, make_config())] == [
        "GPU GPU-0a",
        "GPU 2",
        "GPU 3",
    ]


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (make_config(data=5), r"run a: got 5 devices .* want at most the 4 GPUs that are here"),
        (make_config(data=3), r"run a: data.batch_size: got 8, want a multiple of the 3 devices"),
    ],
)
def test_a_run_that_can_not_be_here_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        devices.find({}).require_fit("a", config)


@pytest.mark.usefixtures("tpu")
@pytest.mark.parametrize(
    ("per_run", "chips", "bounds"),
    [(None, [*"01234567"], "1,1,1"), (4, ["0,1,2,3", "4,5,6,7"], "2,2,1")],
)
def test_each_run_on_a_tpu_host_is_a_tpu_of_its_own(per_run, chips, bounds):
    places = take_all(devices.find({}, per_run), make_config())
    assert [place.environ["TPU_VISIBLE_CHIPS"] for place in places] == chips
    assert {place.environ["TPU_CHIPS_PER_PROCESS_BOUNDS"] for place in places} == {bounds}
    assert {place.environ["TPU_PROCESS_BOUNDS"] for place in places} == {"1,1,1"}
    ports = {place.environ["TPU_PROCESS_PORT"] for place in places}
    assert len(ports) == len(chips)


@pytest.mark.usefixtures("tpu")
def test_chips_of_a_run_lie_side_by_side():
    pool = devices.find({})
    places = take_all(pool, make_config())
    for number in (1, 2, 3):
        pool.give_back(places[number])
    assert pool.take(make_config(data=2)).name == "TPU chip 2, 3"
    assert pool.take(make_config(data=2)) is None


@pytest.mark.usefixtures("tpu")
def test_chips_that_can_not_lie_in_a_rectangle_are_refused():
    with pytest.raises(ValueError, match="--devices_per_run: got 3, want one of 1, 2, 4, 8 TPU"):
        devices.find({}, 3)
    with pytest.raises(ValueError, match="run a: got 3, want one of 1, 2, 4, 8 TPU chips"):
        devices.find({}).require_fit("a", make_config(data=3, batch_size=6))


def on_cpu(monkeypatch, num_cores, **settings):
    monkeypatch.setattr(devices, "find_cores", lambda: list(range(num_cores)))
    return devices.find({"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--a"}, **settings)


@pytest.mark.parametrize(
    ("at_once", "want"),
    [
        (1, [()]),
        (2, [(0, 1), (2, 3)]),
        (3, [(0,), (1,), (2,)]),
        (5, [(0,), (1,), (2,), (3,), (4,)]),
    ],
)
def test_runs_on_a_cpu_share_its_cores(monkeypatch, at_once, want):
    pool = on_cpu(monkeypatch, 5, at_once=at_once)
    places = take_all(pool, make_config())
    assert [place.cores for place in places] == want
    assert {"XLA_FLAGS" in place.environ for place in places} == {False}


@pytest.mark.parametrize(("per_run", "mesh"), [(2, {}), (None, {"data": 2})])
def test_a_cpu_simulates_the_devices_of_a_run(monkeypatch, per_run, mesh):
    pool = on_cpu(monkeypatch, 2, devices_per_run=per_run)
    (place,) = take_all(pool, make_config(**mesh))
    assert place.environ["XLA_FLAGS"] == "--a --xla_force_host_platform_device_count=2"


def test_more_runs_than_cores_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="--at_once: got 3, want at most 2, the CPU's cores"):
        on_cpu(monkeypatch, 2, at_once=3)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_devices_that_are_not_here_are_refused(monkeypatch, platform):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"JAX_PLATFORMS: got '{platform}', and no such device"):
        devices.find({"JAX_PLATFORMS": platform})


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_leave_the_cpu(hidden):
    assert devices.find({"CUDA_VISIBLE_DEVICES": hidden}).kind == devices.CPU
