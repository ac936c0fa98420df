"""Pages: their commands are ones that the program takes, and their links lead somewhere."""

import pathlib
import re
import shlex

import pytest

from jaxlung import main

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^\s*(?:pip .*&& |\S+/bin/)?(?:python -m jaxlung\.main|jaxlung) (.*)$")


def find_commands():
    """Yields (page, arguments) of every line in a block of code that runs jaxlung."""
    for page in PAGES:
        blocks = re.findall(
            r"^ *```\n(.*?)^ *```|^( {4}\S.*\n)", page.read_text(), re.M | re.DOTALL
        )
        for line in "".join(map("".join, blocks)).replace("\\\n", " ").splitlines():
            found = COMMAND.match(line)
            if found and "[" not in found[1]:  # "[--model=RUN ...]" is a synopsis.
                yield page.name, shlex.split(found[1], comments=True)


def test_there_are_commands_of_every_kind():
    commands = [words[0] for _, words in find_commands()]
    assert len(commands) > 40
    assert set(main.COMMANDS) <= set(commands)


@pytest.mark.parametrize(("page", "words"), list(find_commands()))
def test_a_documented_command_is_one_that_the_program_takes(page, words):
    main.parse(["jaxlung", *words])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page):
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text())
    local = [target for target in targets if not target.startswith("http")]
    assert [target for target in local if not (page.parent / target).exists()] == []
