"""Kedro's ``run``, except that Ctrl-C ends with one sentence and the shell's code for it."""

import copy
import sys
from functools import wraps
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from biomassters.console import stream
from biomassters.hooks import install_plain_errors
from biomassters.progress_bar import close_open

INTERRUPTED = 130  # 128 + SIGINT, as shells count


@click.group(name="biomassters")
def cli() -> None:
    """The project's own commands; Kedro finds this group by its name."""


def _run(*args: Any, **kwargs: Any) -> Any:
    assert kedro_run.callback is not None
    install_plain_errors()
    try:
        return kedro_run.callback(*args, **kwargs)
    except KeyboardInterrupt as interruption:
        close_open()
        stream.write(f"{interruption_sentence(interruption)}\n")
        sys.exit(INTERRUPTED)


def interruption_sentence(interruption: KeyboardInterrupt) -> str:
    """What to say of a run that was asked to stop: its own words, where it has any."""
    from biomassters.settings import NODE_LINES

    where = f" during '{NODE_LINES.at_work}'" if NODE_LINES.at_work else ""
    return str(interruption) or (
        f"Interrupted{where}: run the same command again; downloads, packing, training and "
        "mapping continue where they stopped."
    )


run: Any = copy.copy(kedro_run)
run.callback = wraps(kedro_run.callback)(_run) if kedro_run.callback else _run
cli.add_command(run)
