"""The studies of Lin and Huang: which runs they are, and the paper's numbers beside them."""

import itertools

import pytest
from etils import epath

from jaxlung.config import config_file
from jaxlung.study import study_file

COLUMNS = ("dice", "iou", "sensitivity", "precision", "hd95", "nsd")
CONFIGS = {  # study -> attention, PASPP, deep supervision and region of its runs
    "ct_attention": [("se", False, False, "lung"), ("ce", False, False, "lung")],
    "ct_ablation": [
        ("none", False, False, "lung"),
        ("se", False, False, "lung"),
        ("se", True, False, "lung"),
        ("se", True, True, "lung"),
    ],
    "ct_region": [("se", True, True, "lung"), ("se", True, True, "full")],
    "ct_folds": [("se", True, True, "lung")] * 5,
}
PAPER = {  # per cent, as printed: Dice, IoU, sensitivity, precision
    "ct_attention": [(72.29, 57.31, 70.09, 77.27), (72.03, 57.22, 70.02, 75.78)],
    "ct_ablation": [
        (71.96, 57.04, 64.80, 84.35),
        (72.29, 57.31, 70.09, 77.27),
        (74.71, 60.55, 71.06, 79.83),
        (76.27, 62.37, 69.38, 85.63),
    ],
    "ct_region": [(76.27, 62.37, 69.38, 85.63), (50.74, 39.55, 73.28, 52.47)],
    "ct_folds": [(76.27, 62.37, 69.38, 85.63)],
}
SUBJECTS = {  # Table 4, per cent, as printed: Dice, sensitivity, IoU
    "subject A, 512 x 512 x 301": (83.04, 76.93, 71.00),
    "subject B, 512 x 512 x 256": (65.66, 57.22, 48.88),
    "subject C, 630 x 401 x 110": (70.74, 58.98, 54.72),
    "subject D, 630 x 630 x 93": (85.64, 84.36, 74.88),
}
ARGS = ("", "phantom", "quick", "seeds=3", "phantom,seeds=2", "quick,seeds=2")


def load(name, arg, tmp_path):
    spec = config_file.resolve(f"{name}:{arg}" if arg else name, "study")
    made = study_file.load(spec)
    return made, study_file.make_configs(made, epath.Path(tmp_path))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("arg", ARGS)
def test_the_runs_are_the_papers_networks(name, arg, tmp_path):
    made, configs = load(name, arg, tmp_path)
    seeds = int(arg.partition("seeds=")[2] or 1)
    got = [
        (c.model.attention, c.model.paspp, c.model.deep_supervision, c.task.region)
        for c in configs.values()
    ]
    assert got == [config for config in CONFIGS[name] for _ in range(seeds)]
    assert [c.seed for c in configs.values()] == list(range(seeds)) * len(CONFIGS[name])
    assert {c.task.target for c in configs.values()} == {"infection"}
    assert made.columns == COLUMNS
    small = "phantom" in arg or "quick" in arg
    assert {c.data.phantom_images > 0 for c in configs.values()} == {small}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_papers_rows_are_those_printed(name, tmp_path):
    made, _ = load(name, "", tmp_path)
    rows = [row for row in made.paper if row.label not in SUBJECTS]
    got = [[row.scores[key] for key in COLUMNS[:4]] for row in rows]
    assert got == [pytest.approx([x / 100 for x in row]) for row in PAPER[name]]


def test_the_papers_subjects_are_those_printed(tmp_path):
    made, configs = load("ct_folds", "", tmp_path)
    keys = ("dice", "sensitivity", "iou")
    got = {row.label: [row.scores[key] for key in keys] for row in made.paper[1:]}
    assert got == {who: pytest.approx([x / 100 for x in row]) for who, row in SUBJECTS.items()}
    for index, key in enumerate(keys):  # Their means are Table 3's last row, but for a rounding.
        mean = sum(row[index] for row in SUBJECTS.values()) / 4
        assert mean / 100 == pytest.approx(made.paper[0].scores[key], abs=1e-4)
    assert all(len(config.paper.subjects) == 4 for config in configs.values())
    _, others = load("ct_ablation", "", tmp_path)
    assert [len(config.paper.subjects) for config in others.values()] == [0, 0, 0, 4]
    _, others = load("ct_region", "", tmp_path)
    assert [len(config.paper.subjects) for config in others.values()] == [4, 0]


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_know_the_same_numbers_of_the_paper(name, tmp_path):
    made, configs = load(name, "", tmp_path)
    papers = itertools.cycle(row for row in made.paper if row.label not in SUBJECTS)
    for config, paper in zip(configs.values(), papers, strict=False):
        assert config.paper.test.to_dict() == pytest.approx(dict(paper.scores))


@pytest.mark.parametrize("seeds", [1, 2])
def test_every_fold_is_run_and_all_are_one_group(seeds, tmp_path):
    made, configs = load("ct_folds", f"seeds={seeds}", tmp_path)
    got = [(c.data.fold, c.data.folds, c.seed) for c in configs.values()]
    assert got == [(fold, 5, seed) for fold in range(5) for seed in range(seeds)]
    assert {run.group for run in made.runs} == {"all folds"}


@pytest.mark.parametrize("name", ["ct_attention", "ct_ablation", "ct_region"])
def test_runs_are_grouped_once_there_are_several_of_a_kind(name, tmp_path):
    once, _ = load(name, "", tmp_path)
    twice, _ = load(name, "seeds=2", tmp_path)
    assert {run.group for run in once.runs} == {""}
    labels = [run.label for run in once.runs]
    assert [run.group for run in twice.runs] == [label for label in labels for _ in range(2)]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("arg", "message"), [("seeds=0", "seeds: got 0"), ("sseeds=1", "'sseeds'")]
)
def test_an_argument_that_can_not_be_is_told(name, arg, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load(name, arg, tmp_path)
