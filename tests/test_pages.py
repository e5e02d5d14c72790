"""The pages: what they link to is there, and what they name is what it is called."""

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
FOLDERS = REPOSITORY / "src/biomassters/pipelines"
PIPELINES = {folder.parent.name for folder in FOLDERS.glob("*/pipeline.py")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', text)
    targets = [(one or other).split("#")[0] for one, other in links]
    missing = [
        target
        for target in targets
        if target and "://" not in target and not (page.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    """But those of ``conf/local``, which everybody writes for themselves."""
    folders = "docs|benchmarks|notebooks|conf|tests|src"
    named = set(re.findall(rf"`((?:{folders})/[\w/.-]+)`", page.read_text()))
    missing = [name for name in named if not (REPOSITORY / name).exists()]
    assert [name for name in missing if not name.startswith("conf/local/")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_pipelines_and_parameters_that_exist(page: Path) -> None:
    text = page.read_text()
    asked = {
        name for names in re.findall(r"--pipelines ([a-z_,]+)", text) for name in names.split(",")
    }
    assert asked <= PIPELINES
    known = set()
    for file in (REPOSITORY / "conf").glob("*/*.yml"):
        known |= set(re.findall(r"runtime_params:\s*(\w+)", file.read_text()))
        content = yaml.safe_load(file.read_text()) or {}
        if file.name.startswith(("parameters", "globals")):
            known |= _names(content)
    given = {
        pair.split("=")[0]
        for pairs in re.findall(r"--params[ ]+(?:\\\n\s+)?([^\s`]+)", text)
        for pair in pairs.split(",")
        if "=" in pair
    }
    assert sorted(given - known) == []


def _names(options: dict, above: str = "") -> set[str]:
    names = {above + name for name in options}
    for name, value in options.items():
        if isinstance(value, dict):
            names |= _names(value, f"{above}{name}.")
    return names


def test_a_page_tells_of_every_pipeline() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|", (REPOSITORY / "docs/pipelines.md").read_text(), re.MULTILINE
    )
    assert set(rows) == PIPELINES
