"""What a fresh clone installs: every package pinned, the same in all places, from no host."""

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LOCK = (REPOSITORY / "requirements.lock").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PINS = PROJECT["tool"]["uv"]["constraint-dependencies"]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def _version(requirement: str) -> str:
    """``name==version`` alone, without marker and continuation."""
    return requirement.split(";")[0].split("\\")[0].strip()


def test_the_lock_and_the_constraints_are_the_same_versions() -> None:
    locked = [line for line in LOCK.splitlines() if re.match(r"[\w.-]+==", line)]
    assert [_version(line) for line in locked] == [_version(pin) for pin in PINS]


@pytest.mark.parametrize("kind", ["dependencies", "extras", "groups"])
def test_every_direct_dependency_is_pinned(kind: str) -> None:
    lists = {
        "dependencies": [PROJECT["project"]["dependencies"]],
        "extras": PROJECT["project"]["optional-dependencies"].values(),
        "groups": PROJECT["dependency-groups"].values(),
    }[kind]
    wanted = {_name(item) for items in lists for item in items if isinstance(item, str)}
    assert wanted - {_name(pin) for pin in PINS} == set()


def test_hashes_stand_for_hosts() -> None:
    assert "://" not in LOCK
    for entry in re.split(r"\n(?=[\w.-]+==)", LOCK):
        assert "--hash=sha256:" in entry


def test_every_direct_dependency_has_a_lower_bound() -> None:
    groups = [PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"].values()]
    items = [item for items in groups for item in items if isinstance(item, str)]
    assert [item for item in items if ">=" not in item] == []
