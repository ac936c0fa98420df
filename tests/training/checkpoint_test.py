"""Checkpoints: what is kept, and what happens to damaged ones."""

import concurrent.futures
import json
import logging
import pathlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from jaxlung.parallel import sharding
from jaxlung.training import checkpoint, train_step


def make_state(step):
    np_rng = np.random.default_rng(step)
    where = sharding.make_shardings(data=-1, space=1).replicated
    state = train_step.TrainState(
        step=jnp.int32(step),
        params={"kernel": jnp.asarray(np_rng.normal(size=(64, 64)), jnp.float32)},
        batch_stats={"mean": jnp.asarray(np_rng.normal(size=8), jnp.bfloat16)},
        opt_state=(jnp.int32(step), jnp.asarray(np_rng.normal(size=(64, 64)), jnp.float32)),
        learning_rate=jnp.float32(0.1),
        average={},
    )
    return jax.device_put(state, where)


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


LIKE = abstract(make_state(0))


def save_all(path, val_losses):
    with checkpoint.open_manager(epath.Path(path)) as manager:
        for step, val_loss in val_losses.items():
            checkpoint.save(manager, make_state(step), {"epoch_steps": [[step, 0.5]]}, val_loss)
        manager.wait_until_finished()


def restore_latest(path):
    with checkpoint.open_manager(epath.Path(path)) as manager:
        return checkpoint.restore_latest(manager, LIKE)


def data_files(path, step):
    files = (pathlib.Path(path) / "checkpoints" / str(step) / "state").rglob("d/*")
    return sorted(files, key=lambda file: file.stat().st_size)


def assert_is_step(state, step):
    want = make_state(step)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), jax.device_get(want))


def test_what_was_saved_comes_back(tmp_path):
    save_all(tmp_path, {3: 0.5})
    state, progress = restore_latest(tmp_path)
    assert_is_step(state, 3)
    assert progress == {"epoch_steps": [[3, 0.5]]}


def test_the_latest_two_and_the_best_are_kept_also_after_reopening(tmp_path):
    save_all(tmp_path, {1: 0.5, 2: 0.1, 3: 0.4})
    save_all(tmp_path, {4: 0.3, 5: 0.2})
    with checkpoint.open_manager(epath.Path(tmp_path)) as manager:
        assert sorted(manager.all_steps()) == [2, 4, 5]
    assert checkpoint.selected_step("best", epath.Path(tmp_path)) == 2


def test_a_save_in_the_middle_of_an_epoch_is_never_the_best(tmp_path):
    with checkpoint.open_manager(epath.Path(tmp_path)) as manager:
        checkpoint.save(manager, make_state(1), {}, 0.5)
        checkpoint.save(manager, make_state(2), {})
        checkpoint.save(manager, make_state(3), {})
        checkpoint.save(manager, make_state(4), {})
        manager.wait_until_finished()
        assert sorted(manager.all_steps()) == [1, 3, 4]
    assert checkpoint.selected_step("best", epath.Path(tmp_path)) == 1


def test_the_selected_one_is_the_last_or_the_best(tmp_path):
    path = epath.Path(tmp_path)
    save_all(path, {1: 0.5, 2: 0.1, 3: 0.4, 4: 0.3})
    for selection, step in (("last", 4), ("best", 2)):
        assert checkpoint.selected_step(selection, path) == step
        assert_is_step(checkpoint.load_selected(path, selection, LIKE), step)


def test_a_damaged_best_is_named_and_the_newest_used(tmp_path, caplog):
    path = epath.Path(tmp_path)
    save_all(path, {1: 0.5, 2: 0.1, 3: 0.4})
    truncate(data_files(path, 2)[-1])
    with caplog.at_level(logging.WARNING):
        assert_is_step(checkpoint.load_selected(path, "best", LIKE), 3)
    assert "checkpoints/2: damaged" in caplog.text


def test_without_a_checkpoint_nothing_is_selected(tmp_path):
    path = epath.Path(tmp_path)
    for selection in ("last", "best"):
        assert checkpoint.selected_step(selection, path) is None
        with pytest.raises(ValueError, match="there is no checkpoint; train first"):
            checkpoint.load_selected(path, selection, LIKE)


def zero_64_bytes(file):
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    file.write_bytes(content)


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", [zero_64_bytes, truncate, pathlib.Path.unlink])
def test_a_damaged_newest_is_named_and_the_one_before_used(tmp_path, caplog, damage):
    save_all(tmp_path, {1: 0.5, 2: 0.4})
    damage(data_files(tmp_path, 2)[-1])
    with caplog.at_level(logging.WARNING):
        state, _ = restore_latest(tmp_path)
    assert_is_step(state, 1)
    assert "checkpoints/2: damaged" in caplog.text


def test_damaged_progress_is_damage_too(tmp_path):
    save_all(tmp_path, {1: 0.5, 2: 0.4})
    (tmp_path / "checkpoints" / "2" / "progress" / "metadata").write_text("{")
    state, _ = restore_latest(tmp_path)
    assert_is_step(state, 1)


def test_a_damaged_one_is_set_aside_so_that_its_step_can_be_saved_again(tmp_path):
    save_all(tmp_path, {1: 0.5, 2: 0.4})
    truncate(data_files(tmp_path, 2)[-1])
    with checkpoint.open_manager(epath.Path(tmp_path)) as manager:
        state, _ = checkpoint.restore_latest(manager, LIKE)
    checkpoint.set_aside_newer(epath.Path(tmp_path), int(state.step))
    with checkpoint.open_manager(epath.Path(tmp_path)) as manager:
        checkpoint.save(manager, make_state(2), {}, 0.4)
        manager.wait_until_finished()
    assert (tmp_path / "checkpoints_damaged" / "2").is_dir()
    assert_is_step(restore_latest(tmp_path)[0], 2)


def test_what_is_no_damage_is_not_called_so(tmp_path, monkeypatch):
    save_all(tmp_path, {1: 0.5})

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    with checkpoint.open_manager(epath.Path(tmp_path)) as manager:
        monkeypatch.setattr(manager, "restore", refuse)
        with pytest.raises(PermissionError):
            checkpoint.restore_latest(manager, LIKE)


def test_orbax_saves_outside_the_transfer_guard(tmp_path):
    seen, state = [], make_state(1)
    with checkpoint.open_manager(epath.Path(tmp_path)) as manager:
        manager.save = lambda *args, **kwargs: seen.append(
            jax.config.jax_transfer_guard_device_to_host
        )
        with jax.transfer_guard("disallow"):
            checkpoint.save(manager, state, {})
    assert seen == ["allow"]


def test_only_damaged_ones_is_an_error_and_none_is_not(tmp_path):
    assert restore_latest(tmp_path / "empty") is None
    save_all(tmp_path, {1: 0.5})
    truncate(data_files(tmp_path, 1)[-1])
    with pytest.raises(ValueError, match="all 1 checkpoints are damaged"):
        restore_latest(tmp_path)


def test_a_checkpoint_of_another_network_is_an_error(tmp_path):
    save_all(tmp_path, {1: 0.5})
    other = LIKE.replace(params={"kernel": jax.ShapeDtypeStruct((8, 8), jnp.float32)})
    with (
        checkpoint.open_manager(epath.Path(tmp_path)) as manager,
        pytest.raises(ValueError, match=r"checkpoints/1: it is of another network: .*kernel"),
    ):
        checkpoint.restore(manager, 1, other)


@pytest.mark.parametrize("word", [0, 17, 64 * 64 - 1])
def test_any_single_changed_word_changes_the_digest(word):
    state = make_state(0)
    flat = np.array(state.params["kernel"]).reshape(-1)
    flat.view(np.uint32)[word] ^= 1
    other = state.replace(params={"kernel": jnp.asarray(flat.reshape(64, 64))})
    want, got = checkpoint.digest_state(state), checkpoint.digest_state(other)
    differing = {name for name in want if int(want[name]) != int(got[name])}
    assert differing == {".params['kernel']"}


@pytest.mark.parametrize("dtype", [np.float32, np.int32, jnp.bfloat16, np.uint8])
@pytest.mark.parametrize("shape", [(), (3,), (200, 301)])
def test_a_digest_is_the_weighted_sum_of_all_words(dtype, shape):
    """By Python's integers, of any size; checkpoints of earlier versions hold the same number."""
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    words = values.reshape(-1).view(f"u{values.itemsize}").tolist()
    want = sum(w * ((2 * i + 1) * 0x9E3779B1 % 2**32) for i, w in enumerate(words)) % 2**32
    state = make_state(0).replace(params={"kernel": jnp.asarray(values)})
    assert checkpoint.digest_state(state)[".params['kernel']"] == want


def test_a_state_is_saved_as_it_was_while_steps_reuse_its_memory(tmp_path, monkeypatch):
    """The thread saves only after the next step, which was given the state's memory."""
    may_save, save = threading.Event(), checkpoint.save

    def wait_and_save(*args):
        assert may_save.wait(60)
        save(*args)

    monkeypatch.setattr(checkpoint, "save", wait_and_save)
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    with checkpoint.open_to_save(epath.Path(tmp_path)) as saver:
        state = make_state(1)
        saver.save(state, {})
        jax.block_until_ready(step(state))
        assert state.params["kernel"].is_deleted()
        may_save.set()
    assert_is_step(restore_latest(tmp_path)[0], 1)


def test_an_error_of_the_thread_stops_the_next_save(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("the disk is gone")

    monkeypatch.setattr(checkpoint, "save", refuse)
    with (
        checkpoint.open_manager(epath.Path(tmp_path)) as manager,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        saver = checkpoint.Saver(manager, pool)
        saver.save(make_state(1), {})
        with pytest.raises(OSError, match="the disk is gone"):
            saver.save(make_state(2), {})


def test_two_swapped_words_change_the_digest():
    state = make_state(0)
    kernel = state.params["kernel"]
    swapped = kernel.at[0, 0].set(kernel[0, 1]).at[0, 1].set(kernel[0, 0])
    digests = [
        int(checkpoint.digest_state(state.replace(params={"kernel": k}))[".params['kernel']"])
        for k in (kernel, swapped)
    ]
    assert digests[0] != digests[1]


def change_rank(path, step, rank):
    """Changes what the notes say of the rank, and nothing else."""
    file = pathlib.Path(path) / "checkpoints" / str(step) / "progress" / "metadata"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"rank": rank}))


def to_earlier_version(path, step, rank):
    """Makes a checkpoint one of the versions whose notes had no digest."""
    folder = pathlib.Path(path) / "checkpoints" / str(step)
    content = json.loads((folder / "progress" / "metadata").read_text())
    digests = {name: leaf["digest"] for name, leaf in content["leaves"].items()}
    earlier = content["progress"] | {"digests": digests}
    (folder / "progress" / "metadata").write_text(json.dumps(earlier))
    (folder / "metrics" / "metrics").write_text(rank)


def test_a_changed_rank_chooses_no_other_checkpoint_unnamed(tmp_path, caplog):
    path = epath.Path(tmp_path)
    save_all(path, {1: 0.5, 2: 0.1, 3: 0.4})
    change_rank(path, 3, 0.01)
    assert checkpoint.selected_step("best", path) == 2
    with caplog.at_level(logging.WARNING):
        assert_is_step(checkpoint.load_selected(path, "best", LIKE), 2)
    assert "checkpoints/3: damaged: its rank can't be read" in caplog.text


@pytest.mark.parametrize("content", ["", "{", '{"rank": 0.01}', "[]"])
def test_orbax_own_copy_of_the_rank_decides_nothing(tmp_path, content):
    path = epath.Path(tmp_path)
    save_all(path, {1: 0.5, 2: 0.1, 3: 0.4})
    for step in (1, 2, 3):
        file = path / "checkpoints" / str(step) / "metrics" / "metrics"
        if step != 1 or file.exists():  # Step 1 is no longer kept.
            file.write_text(content)
    assert_is_step(checkpoint.load_selected(path, "best", LIKE), 2)
    assert_is_step(checkpoint.load_selected(path, "last", LIKE), 3)
    save_all(path, {4: 0.3, 5: 0.2})
    assert checkpoint.selected_step("best", path) == 2


def test_checkpoints_of_earlier_versions_are_ranked_and_restored(tmp_path):
    path = epath.Path(tmp_path)
    save_all(path, {2: 0.1, 3: 0.4})
    for step, rank in ((2, 0.1), (3, 0.4)):
        to_earlier_version(path, step, json.dumps({"rank": rank}))
    assert_is_step(checkpoint.load_selected(path, "best", LIKE), 2)
    state, progress = restore_latest(path)
    assert_is_step(state, 3)
    assert progress == {"epoch_steps": [[3, 0.5]]}


@pytest.mark.parametrize("rank", ["", "{", '{"loss": 0.1}'])
def test_an_earlier_versions_damaged_rank_is_named_and_stops_nothing(tmp_path, caplog, rank):
    path = epath.Path(tmp_path)
    save_all(path, {2: 0.1, 3: 0.4})
    to_earlier_version(path, 2, rank)
    to_earlier_version(path, 3, '{"rank": 0.4}')
    with caplog.at_level(logging.WARNING):
        assert_is_step(checkpoint.load_selected(path, "best", LIKE), 3)
    assert "checkpoints/2: damaged: its rank can't be read" in caplog.text
    assert_is_step(restore_latest(path)[0], 3)


def test_a_relative_path_is_as_good(tmp_path, monkeypatch):
    save_all(tmp_path / "run", {1: 0.5})
    monkeypatch.chdir(tmp_path)
    assert_is_step(checkpoint.load_selected(epath.Path("run"), "last", LIKE), 1)
    save_all("run", {2: 0.5})
    assert_is_step(restore_latest(tmp_path / "run")[0], 2)


def test_another_type_is_named_and_is_no_damage(tmp_path):
    save_all(tmp_path, {1: 0.5})
    kernel = jax.ShapeDtypeStruct((64, 64), jnp.bfloat16)
    with pytest.raises(ValueError, match=r"kernel.* is float32 there and bfloat16 here") as found:
        checkpoint.load_selected(
            epath.Path(tmp_path), "last", LIKE.replace(params={"kernel": kernel})
        )
    assert "damaged" not in str(found.value)


def test_another_network_is_not_called_damaged(tmp_path):
    save_all(tmp_path, {1: 0.5})
    other = LIKE.replace(params={"bias": LIKE.params["kernel"]})
    with pytest.raises(ValueError, match=r"another network.*\['bias'\] is not there") as found:
        checkpoint.load_selected(epath.Path(tmp_path), "last", other)
    assert "move them away" not in str(found.value)


def test_a_checkpoint_under_another_steps_name_is_damage(tmp_path):
    save_all(tmp_path, {1: 0.5, 2: 0.4})
    (tmp_path / "checkpoints" / "2").rename(tmp_path / "checkpoints" / "3")
    assert_is_step(restore_latest(tmp_path)[0], 1)


def test_reading_writes_nothing(tmp_path):
    path = epath.Path(tmp_path)
    with pytest.raises(ValueError, match="there is no checkpoint"):
        checkpoint.load_selected(path, "last", LIKE)
    assert not list(path.iterdir())
    save_all(path, {1: 0.5})
    half = path / "checkpoints" / "2.orbax-checkpoint-tmp"
    half.mkdir()
    checkpoint.load_selected(path, "best", LIKE)
    assert half.exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        ValueError('RESOURCE_EXHAUSTED: Error writing "x": No space left on device [28]'),
    ],
)
def test_a_full_disk_names_the_folder(tmp_path, error):
    def refuse(*args, **kwargs):
        raise error

    def save_one():
        with checkpoint.open_to_save(epath.Path(tmp_path)) as saver:
            saver.manager.save = refuse
            saver.save(make_state(1), {})

    def close():
        with checkpoint.open_to_save(epath.Path(tmp_path)) as saver:
            saver.manager.close = refuse

    for write in (save_one, close):
        with pytest.raises(OSError, match="checkpoints: can't save a checkpoint: No space left"):
            write()


def test_the_digest_of_the_weights_is_that_of_the_selected_checkpoint(tmp_path):
    path = epath.Path(tmp_path)
    assert checkpoint.selected_weights("best", path) == ""
    save_all(path, {1: 0.5, 2: 0.1, 3: 0.4})
    for selection, step in (("best", 2), ("last", 3)):
        want = checkpoint.digest_weights(make_state(step))
        assert checkpoint.selected_weights(selection, path) == want
