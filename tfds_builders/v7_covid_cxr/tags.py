"""Reads the tags of an image: diagnosis, view, sex, age and patient."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable

COVID_19 = "COVID-19"
LABELS = ("other", COVID_19)

# Published classes that name a disease or its absence.
_FINDINGS = frozenset(
    {"ARDS", "Bacterial Pneumonia", COVID_19, "Chlamydophila", "E.Coli", "Fungal Pneumonia"}
    | {"Influenza", "Klebsiella", "Legionella", "Lipoid pneumonia", "MERS-CoV", "Mycoplasma"}
    | {"No Finding", "No Pneumonia (healthy)", "Nocardia", "Pneumocystis", "Pneumonia", "SARS"}
    | {"Streptococcus", "Tuberculosis", "Undefined Pneumonia", "Varicella", "Viral Pneumonia"}
)
# Known keys that are not stored.
_CLINICAL = frozenset(
    {"Extubated", "ICU_admission", "In_ICU_scan", "Intubation", "Intubation_present", "Survival"}
    | {"Leukocyte_count", "Lymphocyte_count", "Lymphocyte_count_on_admission", "Neutrophil_count"}
    | {"Needed_supplemental_O2", "Temperature", "location", "pO2_saturation"}
)
_STORED = frozenset({"Age", "CT", "PatientID", "Sex", "View", "X-ray"})
_SIDEWAYS = frozenset({"l", "ll", "lateral", "axial", "coronal", "sagittal"})
_SAME_PATIENT = {"178": "97"}  # One person has two numbers in Cohen's collection.
# Kermany's names: person12_bacteria_34.jpeg, BACTERIA-1008087-0001.jpeg, NORMAL2-IM-0027-0001.jpeg.
_KERMANY_PERSON = re.compile(
    r"(?<![A-Za-z0-9])(person\d+(?=_(?:bacteria|virus)_)"
    r"|(?:BACTERIA|VIRUS|NORMAL)-\d+(?=-)|(?:NORMAL2-)?IM-\d+(?=-))"
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """Facts about one image, from its tags.

    Attributes:
        label: diagnosis, one of `LABELS`.
        finding: all diseases, or their absence, joined by ", "; "" if unknown.
        modality: "CT" or "X-ray"; "" if unknown.
        view: "PA", "AP", "AP Supine", "Lateral", "Axial"; "" if unknown.
        sex: "M" or "F"; "" if unknown.
        age_years: age in years, NaN if unknown.
        patient: number of the patient; "" if unknown.
    """

    label: str
    finding: str
    modality: str
    view: str
    sex: str
    age_years: float
    patient: str

    @property
    def is_frontal(self) -> bool:
        """True unless a tag says that the image is a lateral view or a slice."""
        return self.view.lower() not in _SIDEWAYS


def read(names: Iterable[str]) -> Facts:
    """Reads the tags of an image; `View/PA` and `Age:55` are keys with values."""
    found: dict[str, str] = {}
    findings = []
    for name in names:
        key, value = _split(name)
        if name in _FINDINGS:
            findings.append(name)
        else:
            found.setdefault(key, value.strip())
    return Facts(
        label=COVID_19 if COVID_19 in findings else LABELS[0],
        finding=", ".join(sorted(set(findings))),
        modality=next((kind for kind in ("CT", "X-ray") if kind in found), ""),
        view=found.get("View", "").replace("_", " "),
        sex=found.get("Sex", ""),
        age_years=_number(found.get("Age", "")),
        patient=found.get("PatientID", ""),
    )


def patient_id(patient: str, image_id: str, file_names: Iterable[str]) -> str:
    """Returns the name of the person; never "", and the same for all images of one person.

    Kermany numbers bacterial and viral cases separately, so two people may share a number. They are
    kept together, which does no harm in a split by patient.

    Args:
        patient: number of the patient from the tags, or "".
        image_id: id of the image, which distinguishes unknown patients.
        file_names: names of the image's file.
    """
    if patient:
        return f"patient_{_SAME_PATIENT.get(patient, patient)}"
    for name in file_names:
        if match := _KERMANY_PERSON.search(name):
            return f"kermany_{match[1]}"
    return f"image_{image_id}"


def count_unknown(names: Iterable[str]) -> collections.Counter:
    """Counts the tags of unknown kinds, by kind."""
    kinds = (_split(name)[0] for name in names if name not in _FINDINGS)
    return collections.Counter(kind for kind in kinds if kind not in _CLINICAL | _STORED)


def _split(name: str) -> tuple[str, str]:
    key, *value = re.split("[/:]", name, maxsplit=1)
    return key, value[0] if value else ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
