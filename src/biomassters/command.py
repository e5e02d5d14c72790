"""The command ``biomassters``, which an installation brings: ``kedro run`` in any folder.

In a folder of the project it works with the project's ``conf``; in any other with the one that
was installed, and ``data`` is made in that folder.
"""

import os
from pathlib import Path

from kedro.utils import find_kedro_project


def conf_source() -> Path:
    """The configuration: that of the project around the working folder, or the installed one."""
    project = find_kedro_project(Path.cwd())
    if project is not None:
        return Path(project) / "conf"
    installed = Path(__file__).with_name("conf")
    return installed if installed.is_dir() else Path(__file__).parents[2] / "conf"


def main() -> None:
    """Hand the command line on."""
    # Kedro reads both while it is imported, hence here; whoever has set them, wins.
    os.environ.setdefault("KEDRO_LOGGING_CONFIG", str(conf_source() / "logging.yml"))
    os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")

    from kedro.framework.project import configure_project

    configure_project(__package__)

    from biomassters.cli import cli

    cli(prog_name="biomassters")
