"""Tests of readings in the spellings of the downloads."""

import math

import pytest
from absl.testing import absltest, parameterized

from tfds_builders import clinical_reading


class ParseTest(parameterized.TestCase):
    @parameterized.parameters(
        (b"Patient's Sex: F \r\nPatient's Age: 027Y\r\nnormal\r\n", "F", 27),
        (b"Patient's Sex: O\nPatient's Age: 041Y\nTB, 3 months of treatment", "O", 41),
        (b"Patient's Sex: M\nPatient's Age: 006M\nnormal", "M", 0.5),
        (b"Patient's Sex: \nPatient's Age: 033Y\nmale pattern", "", 33),
        (b"Patient's Sex: F\nPatient's Age:\n2 nodules", "F", None),
        (b"male 45yrs\r\nnormal", "M", 45),
        (b"female24yrs\nnormal", "F", 24),
        (b"male35yrs", "M", 35),
        (b"femal 32yrs\nnormal", "F", 32),
        (b"Male , 29yrs  \t\nbilateral secondary PTB", "M", 29),
        (b"Female, 60yr\nnormal", "F", 60),
        (b"male 16month\nnormal", "M", 16 / 12),
        (b"female 3 months\nnormal", "F", 0.25),
        (b"female 64days\nnormal", "F", 64 / 365.25),
        (b"male 42\nnormal", "M", 42),
        (b"male 42 mild PTB of the left lung", "M", 42),
        (b"female 38yrs", "F", 38),
        (b"\n  male 20yrs\n", "M", 20),
        (b"\xef\xbb\xbfmale 20yrs", "M", 20),
        (b"male 51yrs\nleft PTB\xa3\xac\xd7\xf3\xb7\xce", "M", 51),
        (b"male\nnormal, 2 old scars", "M", None),
        (b"", "", None),
        (b"normal\nmale 20yrs", "", None),
        (b"\xff\xd8\xff\x00 99", "", None),
    )
    def test_sex_and_age(self, content, sex, age_years):
        reading = clinical_reading.parse(content)
        assert reading.sex == sex
        if age_years is None:
            assert math.isnan(reading.age_years)
        else:
            assert reading.age_years == pytest.approx(age_years)

    def test_text_keeps_every_byte(self):
        content = bytes(range(256))
        assert clinical_reading.parse(content).text.encode("latin-1") == content


if __name__ == "__main__":
    absltest.main()
