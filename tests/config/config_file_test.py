"""Config files found by path and by name; overrides looked at before they are set."""

import pathlib

import pytest
from absl.testing import parameterized

from jaxlung.config import config_file

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


class ConfigFileTest(parameterized.TestCase):
    def test_a_name_finds_the_checkouts_own_file(self):
        assert config_file.resolve("covidqu:quick") == f"{CONFIGS / 'covidqu.py'}:quick"

    def test_a_path_is_left_alone(self):
        spec = f"{CONFIGS / 'folder.py'}:target=infection"
        assert config_file.resolve(spec) == spec

    def test_an_unknown_name_lists_the_shipped_ones(self):
        with pytest.raises(ValueError, match=r"no file 'covid' in .*covidqu, .*folder"):
            config_file.resolve("covid")

    @parameterized.parameters(
        ("def get_config(arg):\n  return x\n", "NameError: name 'x'"),
        ("import nothing_of_this_name\n", "ModuleNotFoundError"),
        ("x = 1\n", "has no attribute 'get_config'"),
        ("def get_config(\n", "SyntaxError"),
    )
    def test_a_file_that_is_no_config_is_named(self, text, message):
        path = pathlib.Path(self.create_tempdir().full_path) / "mine.py"
        path.write_text(text)
        with pytest.raises(ValueError, match=f"mine.py: .*{message}"):
            config_file.load(str(path))

    @parameterized.parameters((["prog", "--config=covidqu"],), (["prog", "--config", "covidqu"],))
    def test_both_ways_of_writing_the_flag(self, argv):
        argv, spec = config_file.resolve_argument(argv)
        assert spec == str(CONFIGS / "covidqu.py")
        assert argv[-1].endswith("configs/covidqu.py")

    def test_a_shipped_config_is_loaded_with_the_flags_that_are_set(self):
        got = config_file.load_shipped("v7_lungs", phantom=False, quick=True)
        assert got == config_file.load(f"{CONFIGS / 'v7_lungs.py'}:quick")
        assert config_file.load_shipped("v7_lungs") != got

    @parameterized.parameters(
        ("configs/covidqu.py", "runs/covidqu"),
        ("/x/covidqu.py:quick", "runs/covidqu_quick"),
        ("folder.py:target=infection,quick", "runs/folder_target_infection_quick"),
    )
    def test_default_workdir_is_named_after_config_and_variant(self, spec, want):
        assert config_file.default_workdir(spec) == want

    @parameterized.parameters(
        ("--config.data.batch_sise=4", "nearest: --config.data.batch_size"),
        ("--config.sed=4", "nearest: --config.seed"),
        ("--config.modle.widths=4", "--config.modle: .*nearest: --config.model.widths"),
        ("--config.seed.x=4", "--config.seed.x: "),
    )
    def test_an_unknown_field_names_the_nearest(self, argument, message):
        config = config_file.load(str(CONFIGS / "covidqu.py"))
        with pytest.raises(ValueError, match=message):
            config_file.check_overrides(config, [argument])

    def test_known_fields_pass(self):
        config = config_file.load(str(CONFIGS / "covidqu.py"))
        config_file.check_overrides(config, ["--config.data.batch_size=4", "--workdir=x"])
