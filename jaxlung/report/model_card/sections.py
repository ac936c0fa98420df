"""A model card's sections on the network, its use, its data and its ethics."""

import datetime
import platform

from jaxlung.config import run_files
from jaxlung.data.sources import datasets
from jaxlung.export import writer as export
from jaxlung.report import facts, glossary, tables
from jaxlung.report.model_card import markdown
from jaxlung.report.model_card import run as run_lib

_SIDES = {
    "X-ray": "Left and right are the patient's. An X-ray is taken to show the patient's right on"
    " the image's left, unless a DICOM header says otherwise.",
    "CT": "Left and right are the patient's. A CT is turned as its header says, until columns grow"
    " to the patient's left.",
}
# What most images in research data are not (our choice).
_OTHER_KINDS = {
    "X-ray": "lateral views, X-rays taken lying down, children, photographs of films",
    "CT": "scans with contrast medium, other slice thicknesses, children",
}
_USE = """```
jaxlung --mode=predict --workdir=THIS_FOLDER{lungs} --input=IMAGES --output=MASKS
jaxlung --mode=export --workdir=THIS_FOLDER --output=model.jaxlung
python -c "import jaxlung; model = jaxlung.load('THIS_FOLDER'); help(model.predict)"
```"""
_USE_WITH_LUNGS = (
    "The network sees the inside of the lungs alone. LUNG_RUN is the folder of a run that finds"
    " lungs; in Python they go with the image, as an array of its shape in which anything but 0 is"
    " lung: `model.predict(image, lungs)`."
)


def describe_model(run: run_lib.Run) -> list[str]:
    """Everything that the config says, and with what the card was written."""
    known = facts.list_facts(run.config, run.metrics)
    known["Step of the checkpoint"] = f"{run.main.step:,}"
    versions = {"Python": platform.python_version(), **export.versions(export.PACKAGES)}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    today = datetime.datetime.now(datetime.UTC).date()
    return [
        markdown.table(["Detail", "Value"], [*known.items()], rule="---"),
        f"Every setting is in `config.json`. This card is of {today}, written with {listed}; a"
        " run does not keep the versions that trained it.",
        "Who trained this network, under which licence it may be used and whom to ask, a run does"
        " not know: whoever passes it on writes it here.",
    ]


def describe_use(run: run_lib.Run) -> list[str]:
    """What it is for and what not, which side is left, and the commands."""
    uses = [
        f"**For** {_find_purpose(run)}",
        "**Not for** diagnosis, treatment, triage, or any other decision about a person.",
        f"**Not for** {_find_strangers(run)}",
    ]
    return [
        markdown.bullets(uses),
        f"{_SIDES[run.kind]} {_describe_mirroring(run)}".strip(),
        "To use it:",
        _USE.format(lungs=" --workdir=LUNG_RUN" if run.needs_lungs else ""),
        *([_USE_WITH_LUNGS] if run.needs_lungs else []),
    ]


def _find_purpose(run: run_lib.Run) -> str:
    if run.is_phantom:
        return "trying the program out: it learned from generated images alone."
    return (
        f"research on chest {run.kind}s like those under Training Data, by people who can tell a"
        " wrong result from a right one."
    )


def _find_strangers(run: run_lib.Run) -> str:
    """Images on which nothing is known of the network."""
    if run.is_phantom:
        return "images of patients: it was measured on none."
    return (
        f"{run.kind}s of a kind that Training Data does not name: nothing was measured on them."
        f" Unless it names them, these are {_OTHER_KINDS[run.kind]}, other devices and other"
        " diseases."
    )


def _describe_mirroring(run: run_lib.Run) -> str:
    """Whether training exchanged left and right; "" if the config doesn't say."""
    chance = run.section("augment").get("flip_probability")
    if isinstance(chance, list):  # Of slices, rows and columns.
        chance = chance[-1]
    if chance is None:
        return ""
    if chance:
        seen = "patches" if run.task == glossary.VOLUME_MASK else "X-rays"
        share = f"{100 * chance:g} % of the {seen}"
        return f"Training mirrored {share}: left and right are alike to the network."
    return (
        f"Training mirrored no {run.kind}: a mirrored one is of another kind than it was trained"
        " on."
    )


def describe_factors(run: run_lib.Run) -> list[str]:
    """Which kinds of images have scores of their own."""
    named = [markdown.escape(name) for name in run.main.by_group if name.strip()]
    if not named:
        return [
            "The data name no groups of images: there are no scores by sex, age, disease, device or"
            " hospital."
        ]
    return [
        f"The data name these groups: {', '.join(named)}. Quantitative Analyses has the scores of"
        " each. No other factor (sex, age, disease, device, hospital) was looked at."
    ]


def describe_evaluation(run: run_lib.Run) -> list[str]:
    """How many images and patients each split has."""
    heads = [glossary.reword(head, run.task) for head in ("images", "patients")]
    heads += ["groups"] if run.has_groups else []
    return [
        f"The {run.main.split} split, {tables.count_images(run.main)}, of the same data as the"
        " training split: no other source was tried. `splits.csv` says who is in which split.",
        markdown.table(["split", *heads], _split_rows(run), rule="---"),
    ]


def _split_rows(run: run_lib.Run) -> list[list[str]]:
    """From `splits.csv`, or without it from the summaries."""
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
    """Where the images are from, and what is known of them."""
    data = run.section("data")
    name = str(data.get("name", ""))
    if run.is_phantom:
        return [
            f"Generated {run.kind}s in the layout of {markdown.escape(name)}. None of that"
            " dataset's own is among them."
        ]
    downloads = datasets.describe(name)
    if not downloads:
        root = markdown.escape(str(data.get("root", ""))) or "a place that no config names"
        return [
            f"Images from {root}. What they show, whose they are, how they were annotated and what"
            " their licence allows, a run does not know: whoever passes it on writes it here."
        ]
    return [
        f"{markdown.escape(name)}. Of it `tfds_builders` says (the datasets' own pages have the"
        " last word on licences):",
        *map(_quote, downloads),
    ]


def _quote(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def list_ethics(run: run_lib.Run) -> list[str]:
    """Sentences on what the network could do to people."""
    sentences = [
        "A wrong result looks like a right one: before anything depends on an output, somebody who"
        " can read the image must look at it.",
    ]
    if run.is_phantom:
        sentences.append("No patient's image was used.")
    else:
        sentences.append(
            "A network can keep traces of the patients on its training images: it may be passed on"
            " as far as the images' licence and the patients' consent allow."
        )
    if run.task == glossary.DIAGNOSIS:
        sentences.append(
            "Where images with and without the disease come from different sources, a network can"
            " learn to tell the sources apart instead. These scores do not show which it did."
        )
    return sentences
