"""A run's folder takes one config."""

import json

import ml_collections as mlc
import pytest
from etils import epath

from jaxlung.config import config_file, workdir
from jaxlung.training import system


@pytest.fixture
def config():
    return config_file.load(config_file.resolve("covidqu:quick"))


def start_training(path):
    (path / "checkpoints" / "1").mkdir(parents=True)


NO_FOLDS = {"data.fold": None, "data.folds": None}
OLDER = {  # What a run of before had in place of what its config has now.
    "covid19_ct:quick": {"model.reduction": None},
    "cxr_lungs:quick": NO_FOLDS,
    "folder:quick": NO_FOLDS,
    "v7_lungs:quick": NO_FOLDS | {"data.max_train_per_class": None},
    "v7_diagnosis:quick": NO_FOLDS | {"data.max_train_per_class": None, "task.crop_pixels": 1},
}


@pytest.mark.parametrize("spec", list(OLDER))
def test_a_run_from_before_a_field_came_opens_and_goes_on(tmp_path, spec):
    path = epath.Path(tmp_path)
    config = config_file.load(config_file.resolve(spec))
    old = workdir.to_json(config)
    del old["paper"]["note"]
    old["paper"]["test"] = {"dice": 0.5}  # A number beside the scores may be corrected.
    for field, value in OLDER[spec].items():
        section, name = field.split(".")
        del old[section][name]
        if value is not None:
            old[section][name] = value
    (path / "config.json").write_text(json.dumps(old))
    (path / "checkpoints" / "1").mkdir(parents=True)
    loaded = workdir.load_config(path)
    system.make_system(loaded)
    assert loaded.to_dict() | {"paper": {}} == config.to_dict() | {"paper": {}}
    workdir.open_for(config, path)
    assert workdir.load_config(path).paper.to_dict() == config.paper.to_dict()


def test_the_config_comes_back_as_it_was(config, tmp_path):
    path = epath.Path(tmp_path / "run")
    workdir.open_for(config, path)
    assert workdir.load_config(path).to_dict() == config.to_dict()


def test_another_config_is_an_error_that_names_the_fields(config, tmp_path):
    path = epath.Path(tmp_path)
    workdir.open_for(config, path)
    start_training(path)
    config.seed = 7
    config.model.widths = (4, 16)
    with pytest.raises(
        ValueError, match=r"model.widths is \[4, 8\] there and \[4, 16\] here; seed"
    ):
        workdir.open_for(config, path)
    assert workdir.load_config(path).seed == 0


def test_where_data_are_read_from_may_change(config, tmp_path):
    path = epath.Path(tmp_path)
    workdir.open_for(config, path)
    start_training(path)
    config.data.placement = "host"
    config.data.data_dir = "/elsewhere"
    workdir.open_for(config, path)
    assert workdir.load_config(path).data.placement == "host"


@pytest.mark.parametrize("name", list(config_file.shipped_configs()))
def test_every_place_of_a_download_may_change(name):
    config = config_file.load(config_file.resolve(name))
    places = [field for field in config.data if field.startswith("raw_dir")]
    assert places or name == "folder"
    before = workdir.to_json(config)
    for field in places:
        config.data[field] = "downloads/x.zip"
    assert not workdir.differences(before, workdir.to_json(config))
    stored = workdir.with_absolute_paths(config).data
    assert all(epath.Path(stored[field]).is_absolute() for field in places)


def test_the_run_of_the_lungs_is_kept_as_an_absolute_path_and_may_move(tmp_path, monkeypatch):
    config = config_file.load(config_file.resolve("v7_diagnosis:quick"))
    path = epath.Path(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    config.lungs_run = "lungs"
    workdir.open_for(config, path)
    assert workdir.load_config(path).lungs_run == str(tmp_path.resolve() / "lungs")
    assert config.lungs_run == "lungs"
    start_training(path)
    config.lungs_run = "~/moved"
    workdir.open_for(config, path)
    assert workdir.load_config(path).lungs_run == "~/moved"  # Each user's own.


def test_paths_are_stored_absolute_so_that_the_run_goes_on_from_anywhere(tmp_path, monkeypatch):
    config = config_file.load(config_file.resolve("folder:quick"))
    path, here = epath.Path(tmp_path / "run"), tmp_path.resolve()
    monkeypatch.chdir(tmp_path)
    config.data.update(root="mine, /other/", csv="~/list.csv")
    config.init_from = "runs/first"
    workdir.open_for(config, path)
    stored = workdir.load_config(path)
    assert stored.data.root == f"{here}/mine,/other"
    assert stored.data.csv == "~/list.csv"  # Each user's own.
    assert stored.init_from == f"{here}/runs/first"
    assert config.data.root == "mine, /other/"
    start_training(path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    workdir.open_for(stored, path)
    moved = mlc.ConfigDict(stored.to_dict())
    moved.data.update(root="../moved", csv="")
    workdir.open_for(moved, path)
    assert workdir.load_config(path).data.root == f"{here}/moved"
    moved.init_from = "runs/first"
    with pytest.raises(ValueError, match=r"init_from is .*/runs/first' there and .*/elsewhere/"):
        workdir.open_for(moved, path)


def test_a_run_with_the_relative_paths_of_an_earlier_version_goes_on(tmp_path, monkeypatch):
    config = config_file.load(config_file.resolve("folder:quick"))
    path = epath.Path(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    config.init_from = "runs/first"
    workdir.open_for(config, path)
    (path / "config.json").write_text(json.dumps(workdir.to_json(config)))
    start_training(path)
    workdir.open_for(config, path)
    assert workdir.load_config(path).init_from == str(tmp_path.resolve() / "runs" / "first")


def test_a_folder_where_nothing_was_trained_takes_any_config(config, tmp_path):
    path = epath.Path(tmp_path)
    workdir.open_for(config, path)
    config.seed = 7
    workdir.open_for(config, path)
    assert workdir.load_config(path).seed == 7


def test_so_does_one_where_training_failed_before_its_first_checkpoint(config, tmp_path):
    path = epath.Path(tmp_path)
    workdir.open_for(config, path)
    (path / "checkpoints" / "1.orbax-checkpoint-tmp").mkdir(parents=True)
    config.seed = 7
    workdir.open_for(config, path)
    assert workdir.load_config(path).seed == 7


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="not a run's folder"):
        workdir.load_config(epath.Path(tmp_path))


def test_two_processes_do_not_share_a_folder(tmp_path):
    path = epath.Path(tmp_path)
    with (
        workdir.lock(path),
        pytest.raises(ValueError, match="another run is at work"),
        workdir.lock(path),
    ):
        pass
    with workdir.lock(path):
        pass


def test_a_config_without_its_sections_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": 1, "model": {}}')
    with pytest.raises(ValueError, match=r"config.json: there is no task and no optimizer"):
        workdir.load_config(epath.Path(tmp_path))


def test_a_folder_that_can_not_be_made_is_named(config):
    with pytest.raises(ValueError, match=r"--workdir: can't make the folder /dev/null/x \("):
        workdir.open_for(config, epath.Path("/dev/null/x"))


@pytest.mark.parametrize("text", ['{"seed": ', "[" * 100_000])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json: want JSON, got something else"):
        workdir.load_config(epath.Path(tmp_path))


@pytest.mark.parametrize(
    ("field", "value", "want"),
    [
        ("seed", None, "seed: want a whole number, got None"),
        ("epochs", True, "epochs: want a whole number, got True"),
        ("model", [], r"model: want an object, got \[\]"),
        ("task_name", 3, "task_name: want text, got 3"),
        ("paper", {}, "paper.train: want an object, got None"),
        ("data", {"data_dir": 3}, "data.data_dir: want text, got 3"),
        ("init_from", {}, "init_from: want text"),
    ],
)
def test_a_field_of_another_type_is_named(config, tmp_path, field, value, want):
    content = workdir.to_json(config) | {field: value}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"config\.json: {want}"):
        workdir.load_config(epath.Path(tmp_path))


@pytest.mark.parametrize("field", ["seed", "epochs", "selection", "freeze", "model_name", "data"])
def test_a_missing_field_is_named(config, tmp_path, field):
    content = workdir.to_json(config)
    del content[field]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"config\.json: there is no {field} in it"):
        workdir.load_config(epath.Path(tmp_path))


@pytest.mark.parametrize("content", ["[]", "3", "null", '"a"'])
def test_a_config_that_is_no_object_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json: want a JSON object"):
        workdir.load_config(epath.Path(tmp_path))


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("model", "widths", 3),
        ("model", "colour", "red"),
        ("step", "microbatches", None),
        ("control", "stop_patience", "two"),
        ("data", "batch_size", "4"),
        ("mesh", "data", {}),
    ],
)
def test_what_the_objects_of_a_config_refuse_is_blamed_on_its_file(
    config, tmp_path, section, field, value
):
    content = workdir.to_json(config)
    content[section][field] = value
    changed = mlc.ConfigDict(content)
    with (
        pytest.raises(ValueError, match=r"config\.json: "),
        workdir.naming_config(epath.Path(tmp_path)),
    ):
        system.make_system(changed)
