"""What Kedro is told before any of its commands: where they work, and what they need.

Installed as an entry point, so that it is there also outside the project's folder. It imports
nothing heavy, for every ``kedro`` of the environment loads it.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from kedro.framework.cli.hooks import cli_hook_impl

from biomassters.messages import CLONE, in_clone

_USAGE_ERROR = 2
_OWN = ("compare", "reproduce")  # of this project, which Kedro doesn't know elsewhere
_NOTEBOOKS = {"lab": "jupyterlab", "notebook": "notebook", "setup": "ipykernel"}


class CommandCheck:
    """Refuses commands that can't work, in one sentence."""

    @cli_hook_impl(tryfirst=True)
    def before_command_run(self, project_metadata: Any, command_args: list[str]) -> None:
        """Look at the command; exits with 2 when it is out of place, with 1 when it lacks a part.

        Args:
            project_metadata: The project that Kedro has found, or None.
            command_args: The command line after ``kedro``.
        """
        command = command_args[0] if command_args else ""
        if project_metadata is None:
            _check_place(command)
        elif project_metadata.package_name == __package__ and command == "jupyter":
            _check_notebooks(command_args[1:])


def _check_place(command: str) -> None:
    from kedro.framework.cli.cli import project_commands

    if command in (*project_commands.lazy_subcommands, *_OWN):
        _refuse(
            f"'kedro {command}' works in a project's folder only, and {Path.cwd()} is in none: "
            f"{_where_to_go()}.",
            _USAGE_ERROR,
        )


def _where_to_go() -> str:
    if in_clone():
        return f"cd {CLONE}"
    return (
        "change to the folder that holds conf and pyproject.toml, or use 'biomassters', which "
        "works in any"
    )


def _check_notebooks(arguments: list[str]) -> None:
    module = _NOTEBOOKS.get(next(iter(arguments), ""), "")
    if module and "--help" not in arguments and find_spec(module) is None:
        _refuse(
            f"'kedro jupyter {arguments[0]}' needs {module}, which is not installed: run "
            "'uv run --group notebook kedro jupyter lab'.",
            1,
        )


def _refuse(sentence: str, status: int) -> NoReturn:
    sys.stderr.write(f"Error: {sentence}\n")
    raise SystemExit(status)


command_check = CommandCheck()
