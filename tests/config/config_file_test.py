"""Config files are found by path and by name; overrides are checked and set."""

import pathlib
import re

import pytest
from absl import flags
from absl.testing import parameterized
from ml_collections import config_flags

from jaxlung.config import config_file

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def parse_command_line(arguments):
    """Returns ml_collections' own config of `--config=FILE` and overrides, or its error."""
    argv, values = ["jaxlung", *arguments], flags.FlagValues()
    try:
        config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
        values(argv)
    except flags.Error as error:
        return None, str(error).removeprefix("flag ")
    return values.config, ""


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

    def test_a_shipped_config_is_loaded_with_the_flags_that_are_set(self):
        got = config_file.load_shipped("v7_lungs", phantom=False, quick=True)
        assert got == config_file.load(f"{CONFIGS / 'v7_lungs.py'}:quick")
        assert config_file.load_shipped("v7_lungs") != got

    @parameterized.parameters("folder:folds=5", "cxr_lungs:quick,seeds=2")
    def test_what_names_several_runs_is_no_config(self, spec):
        with pytest.raises(ValueError, match=rf"{spec.split(':')[0]}.*: want one run, got [25]"):
            config_file.load(config_file.resolve(spec))

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
            config_file.set_overrides(config, [argument])

    @parameterized.parameters(
        ((),),
        (("--config.seed=3", "--config.model_name=unet"),),
        (("--config.optimizer.learning_rate=1e-4", "--config.seed=1", "--config.seed=2"),),
        (("--config.optimizer.learning_rate=1",),),
        (("--config.model.widths=(4, 8)", "--config.step.remat=true"),),
        (("--config.model.widths=4,8", "--noconfig.step.remat"),),
        (("--config.step.remat",),),
        (("--config.data.name=3", "--config.init_from="),),
        (("--config.seed=3.5",),),
        (("--config.step.remat=3",),),
        (("--config.data=3",),),
        (("--config.seed",),),
    )
    @pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections's
    def test_overrides_are_set_as_by_the_command_line(self, overrides):
        spec = str(CONFIGS / "covidqu.py")
        want, refusal = parse_command_line([f"--config={spec}", *overrides])
        config = config_file.load(spec)
        if refusal:
            with pytest.raises(ValueError, match=re.escape(refusal)) as caught:
                config_file.set_overrides(config, overrides)
            assert len(str(caught.value).splitlines()) == 1
        else:
            assert config_file.set_overrides(config, overrides) == want
            assert config.is_locked

    @parameterized.parameters("--config.sed=4", "config.seed=4", "--other=4")
    def test_what_is_no_override_is_refused(self, argument):
        config = config_file.load(str(CONFIGS / "covidqu.py"))
        with pytest.raises(ValueError, match=argument.lstrip("-").partition("=")[0]):
            config_file.set_overrides(config, [argument])
