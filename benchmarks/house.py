"""How large the house is, and how far a chip walks through it.

    uv run python benchmarks/house.py --json

Counts modules and lines, and runs the environment ``test`` from its archive to its report in a
temporary folder, noting in which modules of the package a function is called: those that a chip
passes (``chips`` to ``submission``), and those around it (Kedro's side, options, checks, messages).
"""

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
import threading
import tokenize
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")
REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src/biomassters"
NOT_FOR_READERS = ("# fmt", "# type", "# noqa")
AROUND = ("pipelines", "datasets", "preflight", "lineage")


def main() -> None:
    """Count, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    arguments = parser.parse_args()
    found = {**size(), **walk()}
    for name, value in found.items():
        print(f"{name:<34} {value}")
    if arguments.json:
        print(json.dumps(found))


def size() -> dict[str, Any]:
    """Modules, lines, comments."""
    paths = [path for path in PACKAGE.rglob("*.py") if path.stem != "__init__"]
    texts = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    lines = sum(text.count("\n") for text in texts.values())
    comments = sum(
        token.type == tokenize.COMMENT
        and not token.string.startswith(("# fmt", "# type", "# noqa"))
        for text in texts.values()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
    )
    return {
        "modules": len(paths),
        "modules_in_the_fullest_folder": max(Counter(path.parent for path in paths).values()),
        "lines": lines,
        "comment_lines_percent": round(100 * comments / lines, 1),
    }


def walk() -> dict[str, int]:
    """Modules of the package in which something is called between an archive and its report."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_name != "<module>":
            seen.add(frame.f_code.co_filename)

    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(REPOSITORY / "conf", Path(folder) / "conf")
        settings = (REPOSITORY / "pyproject.toml").read_text()
        (Path(folder) / "pyproject.toml").write_text(
            settings.replace('source_dir = "src"', 'source_dir = "."')
        )
        os.chdir(folder)
        bootstrap_project(Path(folder))
        for names in (["simulation"], ["from_archive"]):
            if names == ["from_archive"]:
                threading.setprofile(note)
                sys.setprofile(note)
            with KedroSession.create(project_path=folder, env="test") as session:
                session.run(pipeline_names=names)
        sys.setprofile(None)
        threading.setprofile(None)
        os.chdir(REPOSITORY)
    passed = {
        Path(name).relative_to(PACKAGE) for name in seen
        if name.startswith(f"{PACKAGE}/") and not name.endswith("__init__.py")
    }  # fmt: skip
    around = {path for path in passed if len(path.parts) == 1 or path.parts[0] in AROUND}
    options = {path for path in passed - around if path.stem == "options"}
    return {
        "modules_that_a_chip_passes": len(passed - around - options),
        "modules_around_it": len(around | options),
    }


if __name__ == "__main__":
    main()
