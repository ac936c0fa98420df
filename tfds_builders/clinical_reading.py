"""Parses sex and age in the clinical readings of the Montgomery and Shenzhen X-rays.

Montgomery writes DICOM's fields, `Patient's Sex: F` and `Patient's Age: 027Y`. Shenzhen begins with
`male 45yrs`, or `femal 32yrs`, `female24yrs`, `Male , 29yrs`, `male 16month`, `female 64days`,
`male 42`. A finding may follow.
"""

import dataclasses
import math
import re

_DICOM_SEX = re.compile(r"Patient'?s\s+Sex\s*:\s*([FMO])\b", re.IGNORECASE)
_DICOM_AGE = re.compile(r"Patient'?s\s+Age\s*:(.*)", re.IGNORECASE)
_SPOKEN_SEX = re.compile(r"\b(fe)?mal", re.IGNORECASE)
# A number without a unit is in years. The first letters of a finding must not count as a unit.
_AGE = re.compile(
    r"(?<!\d)(\d{1,3}(?:\.\d+)?)(?!\d)\s*((?:m(?:onths?|ths?|os?)?|w(?:eeks?|ks?)?|d(?:ays?)?)\b)?",
    re.IGNORECASE,
)
_PER_YEAR = {"m": 12, "w": 365.25 / 7, "d": 365.25}


@dataclasses.dataclass(frozen=True)
class Reading:
    """A person's sex and age, as a reading states them.

    Attributes:
        sex: "F", "M", "O" (other), or "" if not stated.
        age_years: age in years, NaN if not stated.
        text: text of the whole file.
    """

    sex: str
    age_years: float
    text: str


def parse(content: bytes) -> Reading:
    """Reads a file; accepts any content.

    Args:
        content: content of the file, in any encoding that extends ASCII; b"" if there is no file.
    """
    text = content.decode("latin-1")
    first_line = next(iter(text.strip().splitlines()), "")
    if sex := _SPOKEN_SEX.search(first_line):
        return Reading("F" if sex[1] else "M", _years(first_line), text)
    sex, age = _DICOM_SEX.search(text), _DICOM_AGE.search(text)
    return Reading(sex[1].upper() if sex else "", _years(age[1]) if age else math.nan, text)


def _years(text: str) -> float:
    age = _AGE.search(text)
    if age is None:
        return math.nan
    return float(age[1]) / _PER_YEAR.get((age[2] or "y")[0].lower(), 1)
