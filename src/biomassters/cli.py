"""The project's own ``kedro run``: Kedro's, which first understands what was typed.

Names are checked before a session is opened, ``--params`` takes lists, and Ctrl-C ends with one
sentence and the shell's code for it. Kedro finds this module by its name; ``kedro run`` and
``python -m biomassters`` both come here.
"""

import copy
import os
import sys
from functools import wraps
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.project import settings
from kedro.utils import find_kedro_project

from biomassters.console import stream
from biomassters.errors import BadInputError
from biomassters.hooks import install_plain_errors
from biomassters.progress_bar import close_open
from biomassters.runtime_params import parse_params

INTERRUPTED = 130  # 128 + SIGINT, as shells count
PARAMS_HELP = (
    "Options that differ from conf: name=value pairs with commas between, as in "
    "training.epochs=40,training.folds=0/1 or, in quotation marks, 'training.folds=[0,1]'."
)


@click.group(name="biomassters")
def cli() -> None:
    """The project's own commands; Kedro finds this group by its name."""


def _params(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if isinstance(value, dict):  # from --config
        return value
    try:
        return parse_params(value)
    except BadInputError as error:
        raise click.ClickException(str(error)) from None


def _run(*args: Any, **kwargs: Any) -> Any:
    assert kedro_run.callback is not None
    install_plain_errors()
    try:
        _check_names(kwargs)
        return kedro_run.callback(*args, **kwargs)
    except KedroCliError as error:  # which would print "NoneType: None" alone
        raise click.ClickException(error.message) from None
    except KeyboardInterrupt as interruption:
        close_open()
        stream.write(f"{interruption_sentence(interruption)}\n")
        sys.exit(INTERRUPTED)


def _check_names(options: dict[str, Any]) -> None:
    # Imported here: most commands don't run anything.
    from biomassters.kedro_names import (
        check_environment,
        check_pipelines,
        check_runner,
        check_selection,
    )

    conf_source = options.get("conf_source")
    if not conf_source:
        conf_source = (find_kedro_project(Path.cwd()) or Path.cwd()) / settings.CONF_SOURCE
    # A packed or remote configuration is Kedro's to open.
    if Path(conf_source).is_dir() or not options.get("conf_source"):
        check_environment(Path(conf_source), options.get("env") or os.getenv("KEDRO_ENV"))
    chosen = options.get("pipelines") or [one for one in [options.get("pipeline")] if one]
    check_pipelines(chosen)
    check_runner(options.get("runner"))
    check_selection(chosen, options)


def interruption_sentence(interruption: KeyboardInterrupt) -> str:
    """What to say of a run that was asked to stop: its own words, where it has any."""
    from biomassters.settings import NODE_LINES

    where = f" during '{NODE_LINES.at_work}'" if NODE_LINES.at_work else ""
    return str(interruption) or (
        f"Interrupted{where}: run the same command again; downloads, packing, training and "
        "mapping continue where they stopped."
    )


def _parameters() -> list[click.Parameter]:
    ours = click.Option(
        ["--params"], type=click.UNPROCESSED, default="", help=PARAMS_HELP, callback=_params
    )
    return [ours if one.name == "params" else one for one in kedro_run.params]


run: Any = copy.copy(kedro_run)
run.params = _parameters()
run.callback = wraps(kedro_run.callback)(_run) if kedro_run.callback else _run
cli.add_command(run)
