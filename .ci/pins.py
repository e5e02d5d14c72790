"""Keep the pins: the one version of every package that a fresh clone installs.

    python .ci/pins.py complete  # pins for what is new in pyproject.toml, the others as they are
    python .ci/pins.py renew     # the newest versions; kept only if .ci/run passes with them
    python .ci/pins.py lowest    # the lower bounds of pyproject.toml, with the quick tests

The pins are ``constraint-dependencies`` of ``[tool.uv]`` in ``pyproject.toml``: ``uv`` obeys them
on every machine, and they name no package index, as ``uv.lock`` would. ``requirements.lock``
holds the same versions with their hashes, for pip. Needs nothing but Python and ``uv``.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PYPROJECT = PROJECT / "pyproject.toml"
LOCK = PROJECT / "requirements.lock"
PINS = re.compile(r"constraint-dependencies = \[\n.*?^\]\n", re.DOTALL | re.MULTILINE)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def uv(*arguments: str, folder: Path = PROJECT, **variables: str) -> str:
    """What ``uv`` prints; the script ends where ``uv`` fails."""
    print("uv", *arguments, flush=True)
    environment = {**os.environ, **variables}
    done = subprocess.run(
        ["uv", *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"uv {arguments[0]} failed.")
    return done.stdout


def exported(*options: str) -> str:
    """``uv.lock`` in the words of ``requirements.txt``, without hosts."""
    return uv("export", "--quiet", "--all-groups", "--all-extras", "--no-emit-project", *options)


def with_pins(settings: str, pins: list[str]) -> str:
    """The text of ``pyproject.toml`` with these pins in place of its own."""
    lines = "".join(f'    "{pin}",\n' for pin in pins)
    found, count = PINS.subn(f"constraint-dependencies = [\n{lines}]\n", settings)
    assert count == 1, "pyproject.toml has one list of constraint-dependencies"
    return found


def resolved_pins() -> list[str]:
    """Every package of ``uv.lock``; with its marker where Pythons get different versions."""
    text = exported("--no-hashes", "--no-annotate", "--no-header")
    lines = [line.partition(" ; ") for line in text.splitlines()]
    names = Counter(pin.partition("==")[0] for pin, _, _ in lines)
    return [
        pin if names[pin.partition("==")[0]] == 1 else f"{pin} ; {marker}"
        for pin, _, marker in lines
    ]


def pin(kept: list[str], *options: str) -> None:
    """Write the pins and the lock of what resolves with the kept pins, for every Python."""
    settings = PYPROJECT.read_text()
    PYPROJECT.write_text(with_pins(settings, kept))
    uv("lock", "--quiet", *options)
    PYPROJECT.write_text(with_pins(settings, resolved_pins()))
    uv("lock", "--quiet")
    LOCK.write_text(exported("--no-header"))
    for python in PYTHONS:  # a package without a wheel would ask users for a compiler
        uv("pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:",
           "--python-version", python, str(LOCK))  # fmt: skip


def complete() -> None:
    """Pin what is new in ``pyproject.toml`` and drop what has gone; the other pins stay."""
    pin(tomllib.loads(PYPROJECT.read_text())["tool"]["uv"]["constraint-dependencies"])


def renew() -> None:
    """Pin the newest versions and test them; put all back if a test fails."""
    before = {path: path.read_bytes() for path in (PYPROJECT, LOCK)}
    try:
        pin([], "--upgrade")
        subprocess.run(["bash", PROJECT / ".ci" / "run"], check=True)
    except BaseException:
        for path, content in before.items():
            path.write_bytes(content)
        print("Nothing has changed: the pins are the old ones.", file=sys.stderr)
        raise


def lowest() -> None:
    """Run the quick tests with the lowest versions that ``pyproject.toml`` allows."""
    with tempfile.TemporaryDirectory(prefix="biomassters-lowest-") as temporary:
        folder = Path(temporary) / "project"
        copy_project(folder)
        settings = folder / "pyproject.toml"
        settings.write_text(with_pins(settings.read_text(), []))
        # There are no pins here, for which test_pins looks.
        uv("run", "--resolution", "lowest-direct", "--group", "test-more",
           "pytest", "-m", "not slow", "--ignore=tests/test_pins.py", folder=folder,
           UV_PROJECT_ENVIRONMENT=str(Path(temporary) / "venv"))  # fmt: skip


def copy_project(folder: Path) -> None:
    """What git tracks or would track, as it lies here."""
    listing = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=PROJECT
    )
    for name in filter(None, listing.decode().split("\0")):
        if (PROJECT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((PROJECT / name).read_bytes())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["complete", "renew", "lowest"])
    {"complete": complete, "renew": renew, "lowest": lowest}[parser.parse_args().command]()
