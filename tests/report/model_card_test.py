"""The card: its sections, its numbers against the files, and names that could break it."""

import csv
import importlib.resources
import inspect
import json
import re

import pytest
from absl.testing import parameterized
from etils import epath

import jaxlung
from jaxlung import main
from jaxlung.data.sources import datasets
from jaxlung.predict import network
from jaxlung.report import limits, model_card, page
from jaxlung.tasks import words as task_words
from tests.report import markdown_test, report_summary

SECTIONS = [  # of Mitchell et al., 2019, figure 1
    "Model Details",
    "Intended Use",
    "Factors",
    "Metrics",
    "Evaluation Data",
    "Training Data",
    "Quantitative Analyses",
    "Ethical Considerations",
    "Caveats and Recommendations",
]
EVIL = "a|b\n# c\r<script>x</script> `d` *e* _f_ [g](h) &lt; \\"
EVIL_READ = "a|b # c <script>x</script> `d` *e* _f_ [g](h) &lt; \\"
SCORES = {
    "mask": {"dice": 0.91234, "iou": 0.85, "hd95": 3.217, "dice_pooled": 0.9, "dice_stored": 0.7},
    "three_level": {"mae": 0.1, "f1_macro": 0.5, "precision_macro": 0.4, "precision_micro": 0.6},
    "volume_mask": {"dice": 0.7, "hd95": None, "volume_ml": 150.0},
    "diagnosis": {"auc": 0.9789, "accuracy": 0.9123},
}
PART = {"num_images": 3, "num_nothing_found": 1, "range": [4, 1234]}
PART |= {"scores": {"dice": 0.5, "iou": None}, "intervals": {}}
QUARTILES = {"quartiles": [PART] * 4, "without": PART}
CONFIG = {
    "seed": 7,
    "epochs": 3,
    "selection": "best",
    "task_name": "mask",
    "task": {"target": "lung", "threshold": 0.5, "loss": "bce", "alpha": 0.5},
    "data": {"name": "folder", "root": "xrays", "image_size": 64, "batch_size": 4},
    "augment": {"flip_probability": 0.0},
    "control": {
        "min_learning_rate": 1e-6,
        "plateau_cooldown": 0,
        "plateau_factor": 0.5,
        "plateau_min_delta": 1e-4,
        "plateau_patience": 0,
        "stop_min_delta": 0.0,
        "stop_patience": 0,
    },
}


class CardTest(parameterized.TestCase):
    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path):
        self.workdir = tmp_path / "run"
        self.workdir.mkdir()

    def write(self, task="mask", config=None, **fields):
        """The card's text, of a run with one split."""
        content = report_summary.make(task, fields.pop("scores", SCORES[task]), **fields)
        (self.workdir / f"summary_{content['split']}.json").write_text(json.dumps(content))
        if config is not None:
            (self.workdir / "config.json").write_text(json.dumps(config))
        return model_card.write(epath.Path(self.workdir)).read_text()

    def write_splits(self, **patients):
        with (self.workdir / "splits.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image_id", "patient_id", "split"])
            writer.writerows(
                [f"{split}{i}", who, split]
                for split, people in patients.items()
                for i, who in enumerate(people)
            )


def with_fields(**changes):
    """`CONFIG` with "section__field" set."""
    config = json.loads(json.dumps(CONFIG))
    for name, value in changes.items():
        section, _, field = name.partition("__")
        if field:
            config[section][field] = value
        else:
            config[section] = value
    return config


def section(text, title):
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


class SectionsTest(CardTest):
    @parameterized.product(task=list(SCORES), phantom_images=[None, 0, 12])
    def test_every_run_has_the_papers_sections_and_says_what_it_is_not(self, task, phantom_images):
        config = None
        if phantom_images is not None:
            config = with_fields(task_name=task, data__phantom_images=phantom_images)
        text = self.write(task, config)
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
        first_lines = " ".join(text.splitlines()[:5])
        assert "No medical device: for research, not for diagnosis or treatment." in first_lines
        assert ("generated images (phantoms)" in first_lines) == bool(phantom_images)
        assert ("enerated" in text) == bool(phantom_images)
        assert ("**For** research" in text) != bool(phantom_images)
        assert all(section(text, title).strip() for title in SECTIONS)
        assert not list(self.workdir.glob(".*"))

    def test_names_break_neither_tables_nor_text(self):
        group = {"num_images": 40, "scores": {"dice": 0.5}, "intervals": {}}
        baseline = {"description": EVIL, "scores": {"dice": 0.25}, "intervals": {}}
        root = EVIL.replace("/", "")  # What is before a slash is not shown.
        config = with_fields(data__root=root, data__name=EVIL, model_name=EVIL, model={"dtype": ""})
        text = self.write(
            config=config, by_group={EVIL: group}, baselines={EVIL: baseline}, levels=["x", EVIL]
        )
        cells = [row for table in markdown_test.read_tables(text) for row in table]
        assert ["Images from", EVIL_READ.replace("/", "")] in cells
        assert ["Data", EVIL_READ] in cells
        assert ["test", "40", "40", f"{EVIL_READ} 40"] in cells
        assert ["", f"{EVIL_READ} (40 images)", "all (40 images)"] in cells
        headings = re.findall(r"^#+ .*$", text, re.MULTILINE)
        assert [line for line in headings if line.startswith("## ")] == [
            f"## {title}" for title in SECTIONS
        ]
        tokens = markdown_test.PARSER.parse(text)
        children = [child for token in tokens for child in token.children or ()]
        links = {token.type for token in [*tokens, *children]} & {"link_open", "html_inline"}
        assert not links
        codes = {child.content for child in children if child.type == "code_inline"}
        assert codes == {"config.json", "splits.csv", "report.html"}

    @parameterized.parameters(
        ("mask", {}, False),
        ("volume_mask", dict(task__region="full"), False),
        ("volume_mask", dict(task__region="lung"), True),
        ("diagnosis", dict(task__lungs="none"), False),
        ("diagnosis", dict(task__lungs="predicted"), True),
        ("diagnosis", dict(task__lungs="true"), True),
    )
    def test_its_commands_are_ours(self, task, changes, needs_lungs):
        text = self.write(task, with_fields(task_name=task, **changes))
        commands = re.findall(r"^jaxlung (.*)$", text, re.MULTILINE)
        parsed = [main.parse(["jaxlung", *command.split()])[0] for command in commands]
        assert [args.command for args in parsed] == ["predict", "export"]
        lungs = ["LUNG_RUN"] if needs_lungs else []
        assert parsed[0].model == ["THIS_FOLDER", *lungs]
        assert parsed[1].run == "THIS_FOLDER"
        (name,) = re.findall(r"jaxlung\.(\w+)\('THIS_FOLDER'\)", text)
        assert callable(getattr(jaxlung, name))
        in_python = re.findall(r"`model\.predict\((.*)\)`", text)
        assert in_python == (["image, lungs"] if needs_lungs else [])
        arguments = list(inspect.signature(network.Network.predict).parameters)
        assert arguments[:3] == ["self", "image", "lungs"]


class ScoresTest(CardTest):
    def test_network_baseline_and_paper_stand_in_their_columns(self):
        text = self.write(
            intervals={"dice": [0.9012, 0.9234]},
            baselines={
                "mean_mask": {"description": "d", "scores": {"dice": 0.5}, "intervals": {}},
                "other": {"description": "d", "scores": {"iou": 0.25}, "intervals": {}},
            },
            paper={"iou": 0.9337},
        )
        first = markdown_test.read_tables(section(text, "Quantitative Analyses"))[0]
        assert first == [
            ["", "network", "paper", "mean mask", "other"],
            ["Mean over images: Dice", "0.9123 (0.901\N{EN DASH}0.923)", "", "0.5000", "\u2013"],
            ["Mean over images: IoU", "0.8500", "0.9337", "\u2013", "0.2500"],
            ["Distance, pixels of the stored image: HD95", "3.22", "", "", ""],
        ]
        assert "no better than" not in text

    def test_the_papers_numbers_of_other_splits_have_a_table(self):
        scores = {"accuracy": 0.75, "accuracy_at_half": 0.875}
        content = report_summary.make(
            "mask", scores, split="validation", threshold=0.2, paper={"accuracy_at_half": 0.9575}
        )
        (self.workdir / "summary_validation.json").write_text(json.dumps(content))
        text = section(self.write(threshold=0.2), "Quantitative Analyses")
        assert "**paper**" in text
        assert markdown_test.read_tables(text)[-1] == [
            ["", "validation (40 images)", "paper"],
            ["Mean over images: Accuracy", "0.7500", ""],
            ["At threshold 0.5: Accuracy", "0.8750", "0.9575"],
        ]

    def test_raw_output_is_left_out_but_where_the_paper_has_it(self):
        assert "MAE" not in section(self.write("three_level"), "Quantitative Analyses")
        text = section(self.write("three_level", paper={"mae": 0.02522}), "Quantitative Analyses")
        assert ["Raw output: MAE", "0.10000", "0.02522"] in markdown_test.read_tables(text)[0]

    def test_a_baseline_that_is_as_good_is_told(self):
        better = {"description": "d", "scores": {"dice": 0.91234}, "intervals": {}}
        worse = {"description": "d", "scores": {"dice": 0.9123}, "intervals": {}}
        text = self.write(baselines={"mean_mask": better, "threshold": worse})
        assert "By Dice, the network is no better than these baselines: mean mask." in text

    def test_a_baseline_without_that_score_is_not_told(self):
        other = {"description": "d", "scores": {"iou": 0.9, "dice": None}, "intervals": {}}
        assert "no better than" not in self.write(baselines={"other": other}, scores={"dice": 0})

    @parameterized.parameters(
        ("three_level", "mae"), ("mask", "hd95"), ("volume_mask", "volume_error_ml")
    )
    def test_a_baseline_with_a_larger_error_is_not_told(self, task, key):
        worse = {"description": "d", "scores": {key: 2.0}, "intervals": {}}
        text = self.write(task, baselines={"mean_mask": worse}, scores={key: 1.0})
        assert "no better than" not in text

    def test_a_group_without_a_name_is_called_so_and_alone_has_no_column(self):
        group = {"num_images": 3, "scores": {"dice": 0.5}, "intervals": {}}
        text = self.write(by_group={"": group})
        (splits,) = markdown_test.read_tables(section(text, "Evaluation Data"))
        assert splits[0] == ["split", "images", "patients"]
        assert "no groups of images" in section(text, "Factors")
        self.write_splits(train="pq", test="r")
        text = self.write(by_group={"": group, "A": group})
        (splits,) = markdown_test.read_tables(section(text, "Evaluation Data"))
        assert [row[3] for row in splits] == ["groups", "\N{EN DASH}", "no group 3, A 3"]
        assert "these groups: A. Quantitative" in section(text, "Factors")
        by_group = markdown_test.read_tables(section(text, "Quantitative Analyses"))[-1]
        assert by_group[0] == ["", "no group (3 images)", "A (3 images)", "all (40 images)"]

    def test_stored_sizes_levels_groups_and_counts_have_tables(self):
        text = self.write(
            by_group={"g": {"num_images": 3, "scores": {"iou": 0.5}, "intervals": {}}}
        )
        stored, groups = markdown_test.read_tables(section(text, "Quantitative Analyses"))[1:]
        assert stored == [["", "test (40 images)"], ["Mean over images: Dice", "0.7000"]]
        assert ["Mean over images: IoU", "0.5000", "0.8500"] in groups
        text = self.write("diagnosis", confusion=[[3, 1], [0, 2]])
        counts = markdown_test.read_tables(section(text, "Quantitative Analyses"))[1]
        assert counts[1] == ["is other", "3 (75.0 %)", "1 (25.0 %)", "4"]

    def test_calibration_and_sizes_are_there_when_the_run_has_them(self):
        bins = {name: [1, 2] for name in ("counts", "mean_prob", "fraction")}
        errors = {"ece": 0.01234, "ace": 0.25, "ece_interval": [0.011, 0.02]}
        text = self.write(
            calibration=bins | errors | {"ace_interval": [None, None]},
            by_size={"unit": "pixels"} | QUARTILES,
        )
        assert (
            "**Calibration**: ECE 0.0123 (95 % interval 0.011\N{EN DASH}0.020), ACE 0.2500" in text
        )
        table = markdown_test.read_tables(section(text, "Quantitative Analyses"))[-1]
        assert ["smallest", "4\N{EN DASH}1,234", "3", "0.5000", "\N{EN DASH}", "1"] in table
        assert "### By size of lung, at the network's image size\n" in text
        assert not {"ECE", "By size"} & set(re.findall("ECE|By size", self.write()))
        volumes = self.write("volume_mask", by_size={"unit": "mL"} | QUARTILES)
        assert "### By size of infection\n" in volumes

    def test_a_temperature_is_told_with_the_calibration_without_it(self):
        before = report_summary.CALIBRATION | {"ece": 0.2, "ece_interval": [None, None]}
        text = self.write(
            temperature=1.31234,
            calibration=report_summary.CALIBRATION,
            calibration_before=before,
        )
        assert "| Temperature | 1.312, fitted to the validation split |" in text
        assert "**Calibration without the temperature**: ECE 0.2000, ACE 0.0700." in text
        assert "**Temperature**: The network's logits are divided by this number" in text
        assert "emperature" not in self.write(calibration=report_summary.CALIBRATION)

    @parameterized.parameters(
        (0.5, 0.5, "0.5, set in the config."),
        (0.0, 0.3, "0.3, chosen on the validation split."),
        (0.5, None, "this task needs none."),
    )
    def test_the_threshold_says_where_it_is_from(self, setting, threshold, words):
        text = self.write(config=with_fields(task__threshold=setting), threshold=threshold)
        assert f"**Threshold**: {words}" in text


class LimitsTest(CardTest):
    @parameterized.parameters((150, 99, True), (150, 100, False))
    def test_few_patients_are_called_few(self, num_images, num_patients, few):
        text = self.write(num_images=num_images, num_patients=num_patients)
        count = f"The test split has {num_images} images of {num_patients} patients"
        assert (f"{count}, which is few" in text) == few
        assert count in text

    def test_splits_are_counted_and_shared_patients_told(self):
        self.write_splits(train="aab", validation="cd", test="bbcde")
        config = with_fields(selection="best", control__plateau_patience=2)
        text = self.write(config=config)
        (table,) = markdown_test.read_tables(section(text, "Evaluation Data"))
        assert [row[:3] for row in table[1:]] == [
            ["train", "3", "2"],
            ["validation", "2", "2"],
            ["test", "5", "4"],
        ]
        assert (
            "1 of 4 patients of the test split are also in the train split, which was used to train"
            in text
        )
        assert "2 of 4 patients of the test split are also in the validation split, which" in text
        assert (
            "used to choose the checkpoint and the learning rate: the scores are too optimistic"
            in text
        )

    def test_shared_patients_that_decide_nothing_are_not_told(self):
        self.write_splits(train="ab", validation="c", test="c")
        text = self.write(config=with_fields(selection="last"))
        assert "are also in the" not in text

    @parameterized.parameters(
        ({}, []),
        (dict(selection="best"), ["the checkpoint"]),
        (dict(task__threshold=0.0), ["the threshold"]),
        (dict(control__plateau_patience=2), ["the learning rate"]),
        (dict(calibrate=True), ["the temperature"]),
        (
            dict(selection="best_score", control__stop_patience=5),
            ["the checkpoint", "the end of training"],
        ),
    )
    def test_without_a_test_split_it_says_what_the_validation_split_decided(self, changes, chosen):
        config = with_fields(**{"selection": "last"} | changes)
        assert limits.list_chosen(config) == chosen
        text = self.write(config=config, split="validation")
        decided = f", which was used to choose {' and '.join(chosen)}, so they are too optimistic"
        decided = decided if chosen else ""
        words = f"The test split was not scored: the scores are from the validation split{decided}."
        assert f"- {words}\n" in text
        assert "Scores of the validation split" in text
        assert "was not scored" not in self.write(config=config)

    @parameterized.parameters(("mask", "images"), ("volume_mask", "volumes"))
    def test_with_the_train_split_alone_it_says_that_training_saw_it(self, task, images):
        text = self.write(task, CONFIG, split="train")
        words = f"the scores are from the {images} that the network was trained on, so they are too"
        assert f"The test split was not scored: {words} optimistic." in text
        assert "used to choose" not in text

    def test_unknown_patients_are_told(self):
        words = "Each image is counted as a different patient."
        assert words in self.write(num_images=40, num_patients=40)
        assert words not in self.write(num_images=40, num_patients=39)
        assert "Each volume is counted as a different patient" in self.write("volume_mask")

    @parameterized.parameters(
        (dict(task__region="lung"), "CT"), (dict(inference={"inside_lungs": True}), "CT")
    )
    def test_lungs_that_must_be_annotated_are_named(self, changes, kind):
        words = f"The scores use the annotated lungs of each {kind}"
        assert words in self.write("volume_mask", with_fields(**changes))
        assert words not in self.write("volume_mask", with_fields(task__region="full"))

    @parameterized.parameters(
        ("mask", 0.5, "mirrored 50 % of the X-rays,"),
        ("mask", 0.0, "mirrored no X-ray,"),
        ("volume_mask", [0.0, 0.5, 0.25], "mirrored 25 % of the patches,"),
        ("volume_mask", [0.5, 0.5, 0.0], "mirrored no CT,"),
    )
    def test_mirroring_is_told(self, task, chance, words):
        assert words in self.write(task, with_fields(augment__flip_probability=chance))

    def test_a_table_that_is_none_of_splits_is_named(self):
        (self.workdir / "splits.csv").write_text("a,b\n1,2\n")
        with pytest.raises(
            ValueError, match=r"splits\.csv: want the columns image_id, .*got \['a'"
        ):
            self.write()


DATASETS = sorted(datasets.DATASETS.keys() - {"folder"})


class DataTest(CardTest):
    def test_every_dataset_but_ones_own_has_a_readme(self):
        assert all(map(datasets.describe, DATASETS))
        assert not datasets.describe("folder")

    @parameterized.parameters(*DATASETS)
    def test_what_a_dataset_is_and_its_licence_are_quoted(self, name):
        text = section(self.write(config=with_fields(data__name=f"{name}/512")), "Training Data")
        assert f"{name}/512" in text
        root = importlib.resources.files("tfds_builders")
        for part in datasets.DATASETS[name].parts:
            first_words = (root / part.name / "README.md").read_text()[:40]
            assert f"> {first_words}" in text
        assert re.search("CC BY|Public for", text)
        generated = self.write(config=with_fields(data__name=name, data__phantom_images=9))
        assert f"Generated X-rays in the folder layout of {name}." in section(
            generated, "Training Data"
        )
        assert "CC BY" not in generated

    def test_images_of_ones_own_are_called_unknown(self):
        text = section(self.write(config=CONFIG), "Training Data")
        assert text.strip().startswith("Images from xrays. The run does not know")

    @parameterized.parameters(
        ("/home/smith/clinic/xrays/", "xrays"),
        ("~/clinic/xrays , ../smith/more,", "xrays, more"),
        (".", "."),
    )
    def test_of_paths_the_last_part_alone_is_shown(self, root, shown):
        config = with_fields(data__root=root, init_from="/home/smith/clinic/lungs")
        text = self.write(config=config)
        cells = [row for table in markdown_test.read_tables(text) for row in table]
        assert ["Images from", shown] in cells
        assert ["Initialised from", "lungs"] in cells
        assert not re.search("smith|clinic|home|~", text)
        assert json.loads((self.workdir / "config.json").read_text()) == config


@pytest.mark.parametrize("is_described", [False, True])
def test_a_new_task_needs_words_alone(is_described, tmp_path, monkeypatch):
    found = task_words.Words(
        description="Finds {found} on films.", headlines=("dice",), bias_note="Films fade."
    )
    if is_described:
        monkeypatch.setitem(task_words.WORDS, "films", found)
    content = report_summary.make("mask", {"iou": 0.5, "dice": 0.25}) | {"task": "films"}
    (tmp_path / "summary_test.json").write_text(json.dumps(content))
    text = model_card.write(tmp_path).read_text()
    page_text = page.build(tmp_path).read_text()
    first = "Finds lung on films." if is_described else "The task of this network is films."
    assert f"\n{first}\n" in text
    assert ("Films fade." in text) == is_described
    assert ("- **Dice**" in text) == is_described
    assert page_text.index("0.2500") < page_text.index("<h2>Scores</h2>")
