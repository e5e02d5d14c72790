"""The project's own ``kedro run``: Kedro's, which first understands what was typed.

``--params`` takes lists, names are checked before a session is opened (Kedro finds a misspelt one
late and says so with a traceback), and Ctrl-C ends with one sentence and the shell's code for it.
Beside it stand ``compare`` and ``reproduce``, for runs that are there. Kedro finds this module by
its name; ``kedro run`` and ``python -m biomassters`` both come here.
"""

import copy
import os
import pkgutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any

import click
import yaml
from kedro import runner as kedro_runner
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.project import pipelines, settings
from kedro.framework.session import KedroSession
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf

import biomassters.pipelines
from biomassters.console import at_work, close_open, stream
from biomassters.errors import BadInputError
from biomassters.hooks import install_plain_errors
from biomassters.messages import hint, listed, shown_path
from biomassters.pipeline_registry import DEFAULT, JOINED

INTERRUPTED = 130  # 128 + SIGINT, as shells count
PARAMS_HELP = (
    "Options that differ from conf: name=value pairs with commas between, as in "
    "training.epochs=40,training.folds=0/1 or, in quotation marks, 'training.folds=[0,1]'."
)
_CLOSING = {"[": "]", "{": "}"}
_QUOTES = "\"'"
_KINDS: tuple[tuple[tuple[str, ...], str, Callable[[Pipeline], set[str]]], ...] = (
    (
        ("node_names", "from_nodes", "to_nodes"),
        "node",
        lambda pipeline: {node.name for node in pipeline.nodes},
    ),
    (("tags",), "tag", lambda pipeline: {tag for node in pipeline.nodes for tag in node.tags}),
    (
        ("namespaces",),
        "namespace",
        lambda pipeline: {one for node in pipeline.nodes for one in node.namespace_prefixes},
    ),
    (("from_inputs",), "input dataset", lambda pipeline: pipeline.all_inputs()),
    (("to_outputs",), "output dataset", lambda pipeline: pipeline.all_outputs()),
)
"""Options of ``kedro run``, what their names are names of, and those that a pipeline has."""


@click.group(name="biomassters")
def cli() -> None:  # Kedro finds it by its name
    """Forest biomass from a year of satellite images.

    'run' alone simulates a forest, learns from it, maps it and writes a report into ./data.
    """


def parse_params(text: str) -> dict[str, Any]:
    """Parameters as they are given to ``--params``, nested.

    Kedro cuts the text at every comma, so that ``training.folds=[0,1]`` falls apart. Here a value
    that begins with a bracket, a brace or a quotation mark ends where that is closed.

    Args:
        text: ``key=value`` pairs with commas between; a key may be dotted, a value is YAML, of
            which JSON is a part.

    Raises:
        BadInputError: A pair without key or value, a bracket that is not closed, or no YAML.
    """
    pairs = list(_pairs(text))
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist(pairs))
    except yaml.YAMLError:
        raise BadInputError(
            f"--params {text}: a value can't be read as YAML; write a list as [a,b] and put "
            "text with special characters in quotation marks."
        ) from None
    assert isinstance(parsed, dict)
    return {str(key): value for key, value in parsed.items()}


def _pairs(text: str) -> Iterator[str]:
    rest = text.strip().strip(",").strip()
    while rest:
        key, equals, value = rest.partition("=")
        if not equals or not key.strip() or "," in key:
            item = rest.split(",")[0].strip()
            raise BadInputError(
                f"--params: '{item}' is no name=value; write --params name=value,other=value, "
                "and a list as 0/1 or, in quotation marks, 'name=[0,1]'."
            )
        value = value.lstrip()
        end = _value_end(value, key.strip())
        yield f"{key.strip()}={value[:end].strip()}"
        rest = value[end:].lstrip(" ,")


def _value_end(value: str, key: str) -> int:
    """Where a value ends: at its closing bracket or quotation mark, or at the next comma."""
    if value[:1] not in (*_CLOSING, *_QUOTES):
        return (value + ",").index(",")
    expected: list[str] = []
    quote = ""
    for place, character in enumerate(value):
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character in _CLOSING:
            expected.append(_CLOSING[character])
        elif expected and character == expected[-1]:
            expected.pop()
        if not quote and not expected:
            return (value + ",").index(",", place)
    wanted = quote or expected[-1]
    raise BadInputError(
        f"--params: the value of '{key}', {value}, is never closed with {wanted}; put the whole "
        f"in quotation marks, as in '{key}=[0,1]'."
    )


def _check_names(options: Mapping[str, Any]) -> None:
    """Refuse an environment, pipelines, a runner or parts of pipelines that don't exist."""
    _check_environment(options.get("conf_source"), options.get("env") or os.getenv("KEDRO_ENV"))

    chosen = list(options.get("pipelines") or filter(None, [options.get("pipeline")]))
    folders = pkgutil.iter_modules(biomassters.pipelines.__path__)
    known = {folder.name for folder in folders if folder.ispkg} | {DEFAULT}
    _refuse(f"There is no pipeline '{name}'; {hint(name, known)}" for name in chosen
            if name not in known)  # fmt: skip

    name = options.get("runner")
    found = {
        one for one, value in vars(kedro_runner).items()
        if isinstance(value, type) and issubclass(value, AbstractRunner)
        and value is not AbstractRunner
    }  # fmt: skip
    if name and "." not in name and name not in found:  # one with a dot is somebody else's
        raise BadInputError(f"There is no runner '{name}'; {hint(name, found)}")

    if any(options.get(option) for kinds, *_ in _KINDS for option in kinds):
        _check_selection(chosen, options)


def _check_environment(given: str | None, env: str | None) -> None:
    conf_source = Path(
        given or (find_kedro_project(Path.cwd()) or Path.cwd()) / settings.CONF_SOURCE
    )
    if not conf_source.is_dir():
        if given:
            return  # a packed or remote configuration is Kedro's to open
        raise BadInputError(
            f"There is no configuration {conf_source}: run this in the project's folder, which "
            "holds conf and pyproject.toml, or give another with --conf-source."
        )
    folders = {folder.name for folder in conf_source.iterdir() if folder.is_dir()}
    if env is not None and env not in folders:
        raise BadInputError(
            f"There is no environment '{env}' in {conf_source}; {hint(env, folders)}"
        )


def _check_selection(chosen: list[str], selection: Mapping[str, Any]) -> None:
    """Nodes, tags, namespaces and datasets against those of the chosen pipelines."""
    # As Kedro's session asks for them, so that they are loaded once.
    pipelines.set_requested(chosen or None)
    pipeline = sum((pipelines[name] for name in chosen or [DEFAULT]), Pipeline([]))
    where = f"{listed(chosen)} has" if chosen else "the default run has"
    where = where[0].upper() + where[1:]
    _refuse(
        _unknown(name, what, names_of(pipeline), where, names_of)
        for options, what, names_of in _KINDS
        for option in options
        for name in selection.get(option) or ()
        if name not in names_of(pipeline)
    )
    try:
        pipeline.filter(
            tags=selection.get("tags"),
            from_nodes=selection.get("from_nodes"),
            to_nodes=selection.get("to_nodes"),
            node_names=selection.get("node_names"),
            from_inputs=selection.get("from_inputs"),
            to_outputs=selection.get("to_outputs"),
            node_namespaces=selection.get("namespaces"),
        )
    except ValueError:  # nothing is left to run
        given = [
            f"--{option.replace('_', '-').replace('node-names', 'nodes')} "
            f"{','.join(selection[option])}"
            for options, *_ in _KINDS
            for option in options
            if selection.get(option)
        ]
        raise BadInputError(
            f"{where} no node that fits all of {listed(given)}: leave one of them out."
        ) from None


def _unknown(
    name: str, what: str, known: set[str], where: str, names_of: Callable[[Pipeline], set[str]]
) -> str:
    # A namespace is more often left out than misspelt.
    whole = {one: one.rpartition(".")[2] for one in known}
    if name in whole.values():
        return f"There is no {what} '{name}'; {_did_you_mean(whole, [name])}"
    pipelines.set_requested(None)
    elsewhere = [
        other for other in sorted(pipelines)
        if any(f".{one}".endswith(f".{name}") for one in names_of(pipelines[other]))
    ]  # fmt: skip
    if elsewhere:
        others = [other for other in elsewhere if other not in JOINED]
        return (
            f"{where} no {what} '{name}', but {listed(others or elsewhere)} has: name it with "
            "--pipelines."
        )
    close = get_close_matches(name, whole.values(), n=1)
    meant = _did_you_mean(whole, close) if close else hint(name, known)
    return f"There is no {what} '{name}'; {meant}"


def _did_you_mean(whole: Mapping[str, str], last: Collection[str]) -> str:
    meant = sorted(f"'{one}'" for one, own in whole.items() if own in last)
    return f"did you mean {' or '.join(meant)}?"


def _refuse(sentences: Iterable[str]) -> None:
    found = list(dict.fromkeys(sentences))
    if found:
        raise BadInputError(" ".join(found))


def _params(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if isinstance(value, dict):  # from --config
        return value
    try:
        return parse_params(value)
    except BadInputError as error:
        raise click.ClickException(str(error)) from None


def _run(*args: Any, **kwargs: Any) -> Any:
    assert kedro_run.callback is not None
    with _plain_ends():
        _check_names(kwargs)
        return kedro_run.callback(*args, **kwargs)


@contextmanager
def _plain_ends() -> Iterator[None]:
    """Within it, errors and Ctrl-C end the command with one sentence."""
    install_plain_errors()
    try:
        yield
    except KedroCliError as error:  # which would print "NoneType: None" alone
        raise click.ClickException(error.message) from None
    except KeyboardInterrupt as interruption:  # with words of its own, where it has any
        where = f" during '{at_work()}'" if at_work() else ""
        close_open()
        sentence = str(interruption) or (
            f"Interrupted{where}: run the same command again; downloads, packing, training and "
            "mapping continue where they stopped."
        )
        stream.write(f"{sentence}\n")
        sys.exit(INTERRUPTED)


run: Any = copy.copy(kedro_run)
run.params = [
    click.Option(
        ["--params"], type=click.UNPROCESSED, default="", help=PARAMS_HELP, callback=_params
    )
    if one.name == "params"
    else one
    for one in kedro_run.params
]
run.callback = wraps(kedro_run.callback)(_run) if kedro_run.callback else _run
cli.add_command(run)


def _known(
    env: str | None, runtime_params: Mapping[str, Any]
) -> tuple[CatalogProtocol, dict[str, Any], Path]:
    """Catalog and parameters as a run would have them, and the project's folder."""
    session: Any  # Kedro's types know none of its methods
    with KedroSession.create(env=env, runtime_params=dict(runtime_params)) as session:
        context = session.load_context()
        parameters = context.config_loader["parameters"]
        return context.catalog, parameters, Path(context.project_path)


@cli.command(short_help="Scores of runs and the parameters that differ.")
@click.argument("runs", nargs=-1)
def compare(runs: tuple[str, ...]) -> None:
    """Scores of RUNS, the parameters in which they differ, and a picture; without names, all runs.

    A run is named after its folder in data/08_reporting: its environment's dataset, or what
    '--params run=NAME' said.
    """
    with _plain_ends():
        from biomassters.lineage import run_comparison

        _check_environment(None, os.getenv("KEDRO_ENV"))
        catalog, *_ = _known(None, {})
        found = run_comparison.read_runs(catalog, runs)
        click.echo(run_comparison.score_table(found).to_string())
        if len(found) > 1:
            parameters = run_comparison.parameter_table(found)
            click.echo("\nParameters that differ:" if len(parameters) else "\nThe same parameters.")
            if len(parameters):
                click.echo(parameters.to_string(max_colwidth=60))
            catalog.save("comparison", run_comparison.draw_runs(found))
            click.echo(f"\nPicture: {shown_path(getattr(catalog['comparison'], '_filepath', ''))}")


@cli.command(short_help="Run a recorded run again; say what differs.")
@click.argument("record", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Only name what differs; status 1 if anything does.")
@click.option("--run", "name", help="Name of the new run; without it, the old one's and '_again'.")
@click.option(
    "--params", type=click.UNPROCESSED, default="", callback=_params,
    help="Parameters in the place of recorded ones, as for run.",
)  # fmt: skip
def reproduce(record: Path, check: bool, name: str | None, params: dict[str, Any]) -> None:
    """Run again what RECORD, the run.json of a run, has on record, with its parameters.

    First it names what is not as it was: code, packages, parameters, data. The results lie in
    folders of their own, and are compared with the recorded ones at the end.
    """
    with _plain_ends():
        from biomassters.lineage import reproduction
        from biomassters.lineage.run_comparison import read_record, read_runs, score_table

        before, old = read_record(record), record.absolute().parent.name
        pipelines.set_requested(None)
        chosen = reproduction.pipelines_of(before)
        parameters = reproduction.parameters_of(before, params)
        env = before["runs"][-1]["environment"]
        _check_environment(None, env)
        _, present, project = _known(env, {})
        catalog, *_ = _known(env, {**parameters, "run": old})
        lines = reproduction.differences(before, project, present, catalog)
        click.echo("\n".join(lines) or "Code, packages, parameters and data are as they were.")
        if check:
            sys.exit(1 if lines else 0)
        new = name or f"{old}_again"
        session: Any
        with KedroSession.create(env=env, runtime_params={**parameters, "run": new}) as session:
            session.run(pipeline_names=chosen, node_names=tuple(before["nodes"]))
        runs = read_runs(catalog, (old, new))
        click.echo(score_table(runs).to_string())
        records = (run.record for run in runs.values())
        for dataset, same in reproduction.same_bits(*records).items():
            click.echo(f"{dataset}: {'the same bits' if same else 'other bits'}")
