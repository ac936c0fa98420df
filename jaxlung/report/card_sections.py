"""The sections of a model card on the network, its use, its data and its ethics."""

import datetime
import platform

from jaxlung.config import run_files
from jaxlung.data.sources import datasets
from jaxlung.export import writer as export
from jaxlung.report import facts, glossary, markdown, tables
from jaxlung.report import run as run_lib

_SIDES = {
    "X-ray": "Left and right mean the patient's left and right. An X-ray is expected to show the"
    " patient's right side on the left of the image, unless a DICOM header says otherwise.",
    "CT": "Left and right mean the patient's left and right. Before the network sees a CT, it is"
    " oriented by its header so that columns run towards the patient's left.",
}
# Kinds of images that are rare in research data (our choice).
_OTHER_KINDS = {
    "X-ray": "lateral views, X-rays of patients lying down, children, and photographs of films",
    "CT": "scans with contrast medium, other slice thicknesses, and children",
}
_USE = """```
jaxlung predict IMAGES MASKS --model=THIS_FOLDER{lungs}
jaxlung export THIS_FOLDER model.jaxlung
python -c "import jaxlung; model = jaxlung.load('THIS_FOLDER'); help(model.predict)"
```"""
_USE_WITH_LUNGS = (
    "This network sees only the inside of the lungs. LUNG_RUN is the folder of a run that segments"
    " lungs. In Python, pass the lungs with the image, as an array of the image's shape that is"
    " nonzero inside the lungs: `model.predict(image, lungs)`."
)


def describe_model(run: run_lib.Run) -> list[str]:
    """Returns the facts of the config, and the versions that wrote the card."""
    known = facts.list_facts(run.config, run.metrics, temperature=run.main.temperature)
    known["Step of the checkpoint"] = f"{run.main.step:,}"
    versions = {"Python": platform.python_version(), **export.versions(export.PACKAGES)}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    today = datetime.datetime.now(datetime.UTC).date()
    return [
        markdown.table(["Detail", "Value"], [*known.items()], rule="---"),
        f"`config.json` has all settings. This card was written on {today} with {listed}. The"
        " versions that trained the network are not recorded.",
        "The run does not know who trained this network, under which licence it may be used, or"
        " whom to contact. Please add this information before you share the network.",
    ]


def describe_use(run: run_lib.Run) -> list[str]:
    """Returns the intended use, the meaning of left and right, and the commands."""
    uses = [
        f"**For** {_find_purpose(run)}",
        "**Not for** diagnosis, treatment, triage, or any other decision about a person.",
        f"**Not for** {_find_strangers(run)}",
    ]
    return [
        markdown.bullets(uses),
        f"{_SIDES[run.words.modality]} {_describe_mirroring(run)}".strip(),
        "To use the network:",
        _USE.format(lungs=" --model=LUNG_RUN" if run.needs_lungs else ""),
        *([_USE_WITH_LUNGS] if run.needs_lungs else []),
    ]


def _find_purpose(run: run_lib.Run) -> str:
    if run.is_phantom:
        return "trying out the program: the network was trained only on generated images."
    return (
        f"research on chest {run.words.modality}s like those under Training Data, by people who can"
        " recognise a wrong result."
    )


def _find_strangers(run: run_lib.Run) -> str:
    """Returns for which images nothing is known about the network."""
    if run.is_phantom:
        return "images of patients, as it was not measured on any."
    kind = run.words.modality
    return (
        f"{kind}s of a kind that Training Data does not name, as it was not measured on them."
        f" Unless named there, this includes {_OTHER_KINDS[kind]}, as well as other devices and"
        " other diseases."
    )


def _describe_mirroring(run: run_lib.Run) -> str:
    """Returns whether training mirrored images; "" if the config doesn't say."""
    chance = run.section("augment").get("flip_probability")
    if isinstance(chance, list):  # One for slices, rows and columns each.
        chance = chance[-1]
    if chance is None:
        return ""
    if chance:
        seen = "patches" if run.words.example == "patch" else "X-rays"
        share = f"{100 * chance:g} % of the {seen}"
        return f"Training mirrored {share}, so the network treats left and right alike."
    kind = run.words.modality
    return f"Training mirrored no {kind}, so a mirrored {kind} is unlike those it was trained on."


def describe_factors(run: run_lib.Run) -> list[str]:
    """Returns the groups of images that have scores of their own."""
    named = [markdown.escape(name) for name in run.main.by_group if name.strip()]
    if not named:
        return [
            "The dataset names no groups of images, so there are no scores by sex, age, disease,"
            " device or hospital."
        ]
    return [
        f"The dataset names these groups: {', '.join(named)}. Quantitative Analyses shows the"
        " scores of each. No other factor, such as sex, age, disease, device or hospital, was"
        " studied."
    ]


def describe_evaluation(run: run_lib.Run) -> list[str]:
    """Returns the number of images and patients of each split."""
    heads = [glossary.reword(head, run.task) for head in ("images", "patients")]
    heads += ["groups"] if run.has_groups else []
    return [
        f"The {run.main.split} split has {tables.count_images(run.main)} from the same source as"
        " the training split. The network was not evaluated on data from any other source."
        f" `splits.csv` lists the {glossary.reword('images', run.task)} of each split.",
        markdown.table(["split", *heads], _split_rows(run), rule="---"),
    ]


def _split_rows(run: run_lib.Run) -> list[list[str]]:
    """Returns a row per split from `splits.csv`, or from the summaries without that file."""
    by_split = {summary.split: summary for summary in run.summaries}
    rows = []
    for split in run_files.SPLITS:
        summary, patients = by_split.get(split), run.patients.get(split)
        if patients:
            counts = [len(patients), len(set(patients))]
        elif summary:
            counts = [summary.num_images, summary.num_patients]
        else:
            continue
        rows.append([split, *(f"{number:,}" for number in counts)])
        if run.has_groups:
            groups = summary.by_group.items() if summary else ()
            listed = [
                f"{glossary.name_group(name)} {group['num_images']:,}" for name, group in groups
            ]
            rows[-1].append(", ".join(listed) or "\N{EN DASH}")
    return rows


def describe_training(run: run_lib.Run) -> list[str]:
    """Returns the origin of the images, and what is known about them."""
    data = run.section("data")
    name = str(data.get("name", ""))
    if run.is_phantom:
        return [
            f"Generated {run.words.modality}s in the folder layout of {markdown.escape(name)}. No"
            " image of that dataset was used."
        ]
    downloads = datasets.describe(name)
    if not downloads:
        root = markdown.escape(str(data.get("root", ""))) or "a folder that the config doesn't name"
        return [
            f"Images from {root}. The run does not know what they show, who is shown, how they were"
            " annotated, or under which licence they may be used. Please add this information"
            " before you share the network."
        ]
    return [
        f"{markdown.escape(name)}. `tfds_builders` describes it as follows (for licences, the"
        " dataset's own page is authoritative):",
        *map(_quote, downloads),
    ]


def _quote(text: str) -> str:
    """Returns a text as a Markdown quotation."""
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def list_ethics(run: run_lib.Run) -> list[str]:
    """Returns how the network could harm people."""
    sentences = [
        "Wrong results look like correct ones. Before anything depends on a result, someone"
        " qualified to read the image must check it.",
    ]
    if run.is_phantom:
        sentences.append("No images of patients were used.")
    else:
        sentences.append(
            "A network can retain traces of the patients in its training images. Share it only as"
            " far as the licence of the images and the consent of the patients allow."
        )
    if run.words.bias_note:
        sentences.append(run.words.bias_note)
    return sentences
