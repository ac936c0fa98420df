"""Cited sections, tables and figures of the five papers are there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
HEADINGS = {  # author -> sections, how many tables, figures and equations
    "Nguyen Xuan Minh Vu": ("1 2 2.1 2.2 3 4 4.1 4.2 4.3 4.4 4.5 5 5.1 5.2 5.3 6", 1, 7, 0),
    "Nguyen Xuan Tung": ("1 2 3 3.1 3.2 4 4.1", 2, 3, 1),
    "Bartels et al.": ("1 2 2.1 2.2 2.3 2.4 2.5 2.6 3 4 5", 0, 4, 0),
    "Zhang": ("1 2 3 4 4.1 4.2 4.3 4.4 5 5.1 5.2 5.3 5.4 6", 5, 9, 2),
    "Lin and Huang": ("1 2 2.1 2.2 2.3 3 3.1 3.2 3.3 3.4 3.5 3.6 4 5", 5, 5, 1),
}
PLACE = r"(section|table|figure|equation)s?\s(\d(?:\.\d)?)(?:(?:,\s|\sand\s|\sto\s)(\d(?:\.\d)?))*"
AUTHOR = "|".join(re.escape(name) for name in HEADINGS)
CITATION = re.compile(rf"({AUTHOR})(?:\s\(\d{{4}}\))?(?:'s|,|\s\()\s?{PLACE}", re.IGNORECASE)
TEXTS = [
    path
    for folder in ("jaxlung", "configs", "docs", "benchmarks", "tests")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".md") and path != pathlib.Path(__file__)
] + [ROOT / "README.md"]


def exists(author, kind, number):
    sections, *counts = HEADINGS[author]
    if kind == "section":
        return number in sections.split()
    return (
        "." not in number
        and 1 <= int(number) <= counts[("table", "figure", "equation").index(kind)]
    )


def find_citations(text):
    """(author, kind, number) of every citation, also across a line's end."""
    flat = re.sub(r"\s+(#\s)?", " ", text)
    for match in CITATION.finditer(flat):
        author = next(name for name in HEADINGS if name.lower() == match[1].lower())
        for number in re.findall(r"\d(?:\.\d)?", match[0].partition(match[2])[2]):
            yield author, match[2].lower(), number


def test_all_that_is_cited_is_in_the_papers():
    cited = {(path, *found) for path in TEXTS for found in find_citations(path.read_text())}
    assert len(cited) > 40
    assert [citation for citation in cited if not exists(*citation[1:])] == []


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("(Lin and\n    Huang, section 3.6)", [("Lin and Huang", "section", "3.6")]),
        ("Lin and Huang's Table 5", [("Lin and Huang", "table", "5")]),
        ("Zhang, section 4.1; what", [("Zhang", "section", "4.1")]),
        ("Tables 1 and 2", []),
        ("Lin and Huang, section 4.1", [("Lin and Huang", "section", "4.1")]),
    ],
)
def test_citations_are_found(text, want):
    assert list(find_citations(text)) == want


def test_a_section_that_no_paper_has_is_told():
    assert not exists("Lin and Huang", "section", "4.1")
    assert not exists("Bartels et al.", "table", "1")
    assert exists("Zhang", "table", "5")


def test_papers_are_cited_by_author():
    pattern = re.compile(r"papers? 00[0-4]|system 00[0-4]", re.IGNORECASE)
    assert [path for path in TEXTS if pattern.search(path.read_text())] == []
