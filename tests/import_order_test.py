"""Imports point down: from a room to those below it, never up, never in a circle."""

import ast
import itertools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# From the ground up. A room may import the rooms before it, and its own modules.
ROOMS = (
    "jaxlung.host",
    "jaxlung.parallel",
    "jaxlung.config",
    "jaxlung.image",
    "jaxlung.volume",
    "jaxlung.metrics",
    "jaxlung.losses",
    "jaxlung.models",
    "tfds_builders",
    "jaxlung.data",
    "jaxlung.tasks",
    "jaxlung.exported",
    "jaxlung.training",
    "jaxlung.evaluation",
    "jaxlung.predict",
    "jaxlung.export",
    "jaxlung.report",
    "jaxlung.benchmark",
    "jaxlung.job",
    "jaxlung.study",
    "jaxlung.commands",
    "jaxlung.main",
)
PACKAGE = "jaxlung"  # `jaxlung.load` imports `predict` when it is called.


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for folder in ("jaxlung", "tfds_builders")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def imported(path):
    """Yields the modules of this project that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found = name if name in MODULES else node.module
                if found in MODULES:
                    yield found


def floor(module):
    """Returns the number of a module's room."""
    return next(number for number, room in enumerate(ROOMS) if f"{module}.".startswith(f"{room}."))


@pytest.mark.parametrize("module", [name for name in MODULES if name != PACKAGE])
def test_a_module_imports_only_its_own_room_and_rooms_below(module):
    found = [name for name in imported(MODULES[module]) if name != PACKAGE]
    assert not [name for name in found if floor(name) > floor(module)]


def test_no_modules_import_each_other_in_a_circle():
    waiting = {name: set(imported(path)) - {name} for name, path in MODULES.items()}
    while ready := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
        for name in ready:
            del waiting[name]
    assert not waiting


def test_every_room_is_there_and_nothing_else():
    folder = ROOT / "jaxlung"
    found = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
    rooms = {room.removeprefix("jaxlung.") for room in ROOMS} - {"tfds_builders"}
    assert found - {"__pycache__", "__init__", "configs"} == rooms


def drawn_arrows():
    """Returns (room, room below) for every arrow of the plan in `docs/architecture.md`."""
    plan = (ROOT / "docs" / "architecture.md").read_text().split("```mermaid")[1].split("```")[0]
    plan = re.sub(r'\["[^"]*"\]|\|\w+\|', "", plan)
    lines = [line.split("-->") for line in plan.splitlines() if "-->" in line]
    sides = [[re.findall(r"\w+", side) for side in line] for line in lines]
    return {arrow for above, below in sides for arrow in itertools.product(above, below)}


def test_the_plan_has_only_arrows_that_are_imports_and_leads_to_all_of_them():
    def room(module):
        name = ROOMS[floor(module)].removeprefix("jaxlung.")
        return {"commands": "main", "tfds_builders": "builders"}.get(name, name)

    def find_below(name):
        below = {lower for upper, lower in arrows if upper == name}
        return below.union(*map(find_below, below))

    arrows = drawn_arrows()
    modules = MODULES.keys() - {PACKAGE}
    pairs = ((a, b) for a in modules for b in imported(MODULES[a]) if b != PACKAGE)
    imports = {(room(a), room(b)) for a, b in pairs if room(a) != room(b)}
    assert arrows <= imports
    assert [(upper, lower) for upper, lower in imports if lower not in find_below(upper)] == []
