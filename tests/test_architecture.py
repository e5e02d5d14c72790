"""docs/architecture.md against the tree."""

import ast
import re
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src/biomassters"
PAGE = Path(__file__).parents[1] / "docs/architecture.md"
# One in each of several rooms, as their readers expect.
ALIKE = {"options", "nodes", "pipeline", "layout", "metadata", "writer"}


def modules() -> dict[str, str]:
    """First sentence of each module's docstring, by its path in the package without suffix."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.stem != "__init__":
            first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
            line = " ".join(first.split()).replace("``", "`").rstrip(".")
            found[path.relative_to(PACKAGE).with_suffix("").as_posix()] = line
    return found


def listed() -> dict[str, str]:
    """The same, as the page has it."""
    found, room = {}, ""
    for line in PAGE.read_text().splitlines():
        if heading := re.match(r"\*\*`(\S+)/`\*\*: ", line):
            room = "" if heading[1] == "biomassters" else heading[1] + "/"
        elif row := re.match(r"\| `([\w/]+)` \| (.+) \|$", line):
            found[room + row[1]] = row[2]
    return found


def test_the_page_lists_every_module_by_its_first_line():
    assert listed() == modules()


def test_every_module_says_what_it_is_for():
    assert not [name for name, line in modules().items() if not line]


def test_a_module_is_found_by_its_name():
    names = Counter(name.rpartition("/")[2] for name in modules())
    assert not {name for name, count in names.items() if count > 1} - ALIKE


def test_no_room_is_crowded():
    rooms = Counter(path.parent for path in PACKAGE.rglob("*.py") if path.stem != "__init__")
    assert max(rooms.values()) <= 18
