"""The check of cuDNN's version."""

import ctypes
import sys

import jax
import pytest

from jaxlung.config import config_file
from jaxlung.parallel import cudnn, sharding
from jaxlung.training import system as system_lib


@pytest.fixture
def load(monkeypatch):
    """Makes a version the loaded one."""
    return lambda version: monkeypatch.setattr(cudnn, "loaded_version", lambda: version)


@pytest.mark.parametrize(
    ("dtype", "right", "wrong"),
    [
        ("bfloat16", (None, 90701, 91500, 92801), (90800, 91002, 91401)),
        ("float16", (None, 90701, 91500, 92801), (90800, 91002, 91401)),
        ("float32", (None, 90800, 91001, 91600, 92801), (91002, 91401, 91501)),
    ],
)
def test_the_versions_that_pytorch_avoids_are_refused(load, dtype, right, wrong):
    for version in right:
        load(version)
        cudnn.require_sound_3d(dtype)
    for version in wrong:
        load(version)
        with pytest.raises(ValueError, match=rf"cuDNN 9\.\d+\.\d+ .* {dtype} wrongly"):
            cudnn.require_sound_3d(dtype)


def test_the_message_says_what_to_install(load):
    load(91002)
    with pytest.raises(ValueError, match=r"^cuDNN 9\.10\.2 .*: install 9\.15\.0 or later"):
        cudnn.require_sound_3d("bfloat16")


def test_float32_with_all_its_bits_uses_no_tensorfloat32(load):
    load(91002)
    with jax.default_matmul_precision("highest"):
        cudnn.require_sound_3d("float32")
        with pytest.raises(ValueError, match="bfloat16"):
            cudnn.require_sound_3d("bfloat16")


def test_only_volumes_on_gpus_are_checked(load, monkeypatch):
    load(91002)
    images, volumes = (
        config_file.load(config_file.resolve(name))
        for name in ("covidqu:quick", "covid19_ct:quick")
    )
    system_lib.make_system(volumes)
    monkeypatch.setattr(sharding.Shardings, "platform", "gpu")
    system_lib.make_system(images)
    with pytest.raises(ValueError, match="cuDNN"):
        system_lib.make_system(volumes)


@pytest.mark.skipif(sys.platform != "linux", reason="cuDNN's name is that on Linux")
def test_the_version_is_asked_of_the_loaded_library_only(monkeypatch, tmp_path):
    assert cudnn.loaded_version() is None  # Tests run without a GPU.
    # A library that this process has loaded answers by its name.
    monkeypatch.setattr(cudnn, "LIBRARY", "libc.so.6")
    real = ctypes.CDLL

    def load(name, mode):
        library = real(name, mode=mode)
        library.cudnnGetVersion = ctypes.CFUNCTYPE(ctypes.c_size_t)(lambda: 92801)
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert cudnn.loaded_version() == 92801
