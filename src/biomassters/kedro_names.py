"""Names on Kedro's command line: environments, pipelines, nodes, tags, datasets, namespaces.

Kedro finds a misspelt one late and says so with a traceback. Here each gets a sentence with the
nearest name that exists, before a session is opened.
"""

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kedro import runner as kedro_runner
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline
from kedro.runner import AbstractRunner

import biomassters.pipelines
from biomassters.errors import BadInputError
from biomassters.readable import hint, listed

DEFAULT = "__default__"


def _nodes(pipeline: Pipeline) -> set[str]:
    return {node.name for node in pipeline.nodes}


def _tags(pipeline: Pipeline) -> set[str]:
    return {tag for node in pipeline.nodes for tag in node.tags}


def _namespaces(pipeline: Pipeline) -> set[str]:
    return {prefix for node in pipeline.nodes for prefix in node.namespace_prefixes}


def _inputs(pipeline: Pipeline) -> set[str]:
    return {name for node in pipeline.nodes for name in node.inputs}


def _outputs(pipeline: Pipeline) -> set[str]:
    return {name for node in pipeline.nodes for name in node.outputs}


_KINDS: tuple[tuple[tuple[str, ...], str, Callable[[Pipeline], set[str]]], ...] = (
    (("node_names", "from_nodes", "to_nodes"), "node", _nodes),
    (("tags",), "tag", _tags),
    (("namespaces",), "namespace", _namespaces),
    (("from_inputs",), "input dataset", _inputs),
    (("to_outputs",), "output dataset", _outputs),
)
"""Options of ``kedro run``, what their names are names of, and those that a pipeline has."""


def pipeline_names() -> set[str]:
    """Every pipeline that ``--pipelines`` takes, without importing any of them."""
    folders = pkgutil.iter_modules(biomassters.pipelines.__path__)
    return {folder.name for folder in folders if folder.ispkg} | {DEFAULT}


def check_environment(conf_source: Path, env: str | None) -> None:
    """Refuse an environment that has no folder.

    Args:
        conf_source: The folder ``conf``.
        env: Name of the environment; None is the default one.

    Raises:
        BadInputError: There is no such environment, or no configuration at all.
    """
    if not conf_source.is_dir():
        raise BadInputError(
            f"There is no configuration {conf_source}: run this in the project's folder, which "
            "holds conf and pyproject.toml, or give another with --conf-source."
        )
    folders = {folder.name for folder in conf_source.iterdir() if folder.is_dir()}
    if env is not None and env not in folders:
        raise BadInputError(
            f"There is no environment '{env}' in {conf_source}; {hint(env, folders)}"
        )


def check_pipelines(names: Iterable[str]) -> None:
    """Refuse pipelines that don't exist.

    Raises:
        BadInputError: One sentence for each.
    """
    known = pipeline_names()
    _refuse(f"There is no pipeline '{name}'; {hint(name, known)}" for name in names
            if name not in known)  # fmt: skip


def check_runner(name: str | None) -> None:
    """Refuse a runner that Kedro doesn't have; one with a dot is somebody else's.

    Raises:
        BadInputError: There is none.
    """
    if not name or "." in name:
        return
    found = {
        one for one, value in vars(kedro_runner).items()
        if isinstance(value, type) and issubclass(value, AbstractRunner)
        and value is not AbstractRunner
    }  # fmt: skip
    if name not in found:
        raise BadInputError(f"There is no runner '{name}'; {hint(name, found)}")


def check_selection(names: Iterable[str], selection: Mapping[str, Any]) -> None:
    """Refuse nodes, tags, namespaces and datasets that the chosen pipelines don't have.

    Args:
        names: The pipelines, which exist; none is the default one.
        selection: Options of ``kedro run`` by their names there.

    Raises:
        BadInputError: One sentence for each name, or one where nothing is left to run.
    """
    if not any(selection.get(option) for options, *_ in _KINDS for option in options):
        return
    chosen = list(names)
    # As Kedro's session asks for them, so that they are loaded once.
    pipelines.set_requested(chosen or None)
    pipeline = sum((pipelines[name] for name in chosen or [DEFAULT]), Pipeline([]))
    where = f"{listed(chosen)} has" if chosen else "the default run has"
    _refuse(
        _unknown(name, what, known(pipeline), where, known)
        for options, what, known in _KINDS
        for option in options
        for name in selection.get(option) or ()
        if name not in known(pipeline)
    )
    _check_something_is_left(pipeline, selection, where)


def _unknown(
    name: str, what: str, known: set[str], where: str, kind: Callable[[Pipeline], set[str]]
) -> str:
    inside = [one for one in known if one.endswith(f".{name}")]
    if inside:
        return f"There is no {what} '{name}'; did you mean {listed(sorted(inside))}?"
    pipelines.set_requested(None)
    elsewhere = [other for other in sorted(pipelines) if name in kind(pipelines[other])]
    if elsewhere:
        others = [other for other in elsewhere if other not in (DEFAULT, "from_archive")]
        return (
            f"{where[0].upper()}{where[1:]} no {what} '{name}', but "
            f"{listed(others or elsewhere)} has: name it with --pipelines."
        )
    return f"There is no {what} '{name}'; {hint(name, known)}"


def _check_something_is_left(pipeline: Pipeline, given: Mapping[str, Any], where: str) -> None:
    try:
        pipeline.filter(
            tags=given.get("tags"),
            from_nodes=given.get("from_nodes"),
            to_nodes=given.get("to_nodes"),
            node_names=given.get("node_names"),
            from_inputs=given.get("from_inputs"),
            to_outputs=given.get("to_outputs"),
            node_namespaces=given.get("namespaces"),
        )
    except ValueError:
        chosen = [
            f"--{option.replace('_', '-').replace('node-names', 'nodes')} {','.join(given[option])}"
            for options, *_ in _KINDS
            for option in options
            if given.get(option)
        ]
        raise BadInputError(
            f"{where[0].upper()}{where[1:]} no node that fits all of {listed(chosen)}: leave one "
            "of them out."
        ) from None


def _refuse(sentences: Iterable[str]) -> None:
    found = list(dict.fromkeys(sentences))
    if found:
        raise BadInputError(" ".join(found))
