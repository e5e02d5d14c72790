"""Configuration, looked at before Kedro uses it: plain YAML, and only parameters that exist.

YAML may name Python objects to build, refer to itself without end, or stand for millions of values
in a few lines. Kedro's reader builds no objects, but answers all of these with a traceback that
doesn't name the file, or not at all. It also takes any parameter on the command line and drops
those it doesn't know. Here ``conf/base`` lists every parameter; environments and ``--params`` only
override.
"""

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline
from omegaconf.errors import OmegaConfBaseException

from biomassters.errors import BadInputError
from biomassters.io.files import read_regular

# Parameters of earlier versions, and what has taken their place.
_MOVED = {
    "finetuning": "the second stage is an entry of training.stages (docs/training.md), as in "
    "'training.stages=[{name: fit}, {name: finetune, epochs: 60, chips: all, start: last}]'."
}
_SUFFIXES = (".yml", ".yaml", ".json")  # as Kedro's loader
logger = logging.getLogger(__name__)

_MOST_BYTES = 2**20
_MOST_VALUES = 100_000
_DEEPEST = 100
# libyaml's is ten times as fast; both know the same tags.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = {*_LOADER.yaml_constructors, "tag:yaml.org,2002:merge"}
_RUNTIME_PARAMETER = re.compile(r"runtime_params:\s*([\w.]+)")
_RUN_NAME = re.compile(r"[A-Za-z][\w.-]{0,63}", re.ASCII)


class ConfigurationCheck:
    """Refuses configuration that is no plain YAML, and parameters that nothing reads."""

    def __init__(self) -> None:
        self._conf_source = Path()

    @hook_impl(tryfirst=True)  # others read the parameters, too
    def after_context_created(self, context: KedroContext) -> None:
        """Look at the files, then compare parameter names with those of ``conf/base``."""
        loader: Any = context.config_loader
        conf_source = self._conf_source = Path(loader.conf_source)
        environment = loader.env or loader.default_run_env
        require_readable(conf_source / loader.base_env, conf_source / environment)
        if "run" in (loader.runtime_params or {}):
            check_run_name(loader.runtime_params["run"], loader["globals"]["dataset"], conf_source)
        known = known_parameters(conf_source)
        try:
            # Kept: Kedro's loader would read twenty files for everyone who asks, and four do.
            loader["parameters"] = parameters = loader["parameters"]
        except (OmegaConfBaseException, ValueError) as error:
            said = " ".join(str(error).split()).rstrip(".")
            raise BadInputError(
                f"The parameter files can't be put together ({said}): correct them."
            ) from None
        sentences = unknown_parameters(parameters, known)
        if sentences:
            raise BadInputError(" ".join(sentences))

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Say which files and folders of the command line the run leaves alone."""
        given = run_params.get("runtime_params") or {}
        for sentence in unused_places(given, pipeline.datasets(), self._conf_source):
            logger.warning("%s", sentence)


def check_run_name(name: Any, dataset: str, conf_source: Path) -> None:
    """Refuse a name that can't be a run's folder, or is another environment's.

    Args:
        name: As ``--params run=NAME`` gave it.
        dataset: Of the environment, and the name of a run that is given none.
        conf_source: The folder ``conf``, whose environments keep their folders.

    Raises:
        BadInputError: It is no such name.
    """
    if not isinstance(name, str) or not _RUN_NAME.fullmatch(name):
        raise BadInputError(
            f"run={name}: a run is named by up to 64 letters, digits, '.', '_' and '-', and begins "
            "with a letter, as in run=wide_2."
        )
    for file in sorted(conf_source.glob("*/globals.yml")):
        theirs = (yaml.safe_load(file.read_text()) or {}).get("dataset")
        if name == theirs != dataset:
            raise BadInputError(
                f"run={name}: results of the environment {file.parent.name} lie in folders of that "
                "name; choose another."
            )


def require_readable(*folders: Path) -> None:
    """Refuse configuration that is no plain YAML.

    Args:
        folders: Of environments; those that don't exist are left out.

    Raises:
        BadInputError: A file can't be read as YAML, is too large, or holds a tag of Python's or
            of an application's, itself, or too many values.
    """
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SUFFIXES and not path.is_dir():
                _require_plain(path)


def _require_plain(path: Path) -> None:
    try:
        text = read_regular(path, _MOST_BYTES).decode()
        _check_depth(text)
        root = yaml.compose(text, Loader=_LOADER)
        if root is not None:
            if not isinstance(root, yaml.MappingNode):
                raise _fault("it holds no names", root)
            _count(root, {})
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        fault = f"is no plain YAML{line} ({error.problem})"
    except (UnicodeDecodeError, yaml.YAMLError):
        fault = "is no text"
    else:
        return
    raise BadInputError(f"{path} {fault}: write plain values there, as the files in conf/base do.")


def _check_depth(text: str) -> None:
    # By events, which don't recurse: where a library has raised Python's limit of recursion,
    # composing 100,000 lists in one another overruns the C stack, and the process with it.
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise _fault("nests too deeply", event)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _fault(problem: str, at: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    mark: Any = at.start_mark  # libyaml's marks are of another type
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, each as often as it is referred to."""
    size = known.get(id(node))
    if size == 0:
        raise _fault("it contains itself", node)
    if size is None:
        if node.tag not in _TAGS:
            raise _fault(f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')}", node)
        known[id(node)] = 0  # is being looked at
        size = 1 + sum(_count(inner, known) for inner in _inside(node))
        known[id(node)] = size
    if size > _MOST_VALUES:
        raise _fault(f"more than {_MOST_VALUES:,} values", node)
    return size


def _inside(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        names = set()
        for name, value in node.value:
            if name.value in names and isinstance(name, yaml.ScalarNode):
                raise _fault(f"{name.value} is there twice", name)
            names.add(str(name.value))
            yield from (name, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def dotted_names(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of a nested mapping, as ``a``, ``a.b``, ``a.b.c``."""
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from dotted_names(value, f"{prefix}{key}.")


def unknown_parameters(given: Mapping[str, Any], known: set[str]) -> list[str]:
    """A sentence for each parameter that nothing reads, with the closest known name.

    Args:
        given: The parameters of a run, nested.
        known: Dotted names of every parameter that exists.
    """
    sentences = []
    for name in dotted_names(given):
        parent = name.rpartition(".")[0]
        if name in known or (parent and parent not in known):
            continue
        close = _closest(name, known)
        if name in _MOVED:
            sentences.append(f"There is no parameter '{name}' any more; {_MOVED[name]}")
            continue
        hint = f"did you mean '{close}'?" if close else "conf/base lists every parameter."
        sentences.append(f"There is no parameter '{name}'; {hint}")
    return sentences


def _closest(name: str, known: set[str]) -> str | None:
    """The known name most like it: among its neighbours first, also by initials (lr)."""
    parent, dot, leaf = name.rpartition(".")
    leaves = {other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == parent}
    by_initials = [other for other in leaves if "".join(w[:1] for w in other.split("_")) == leaf]
    near = by_initials or get_close_matches(leaf, leaves, n=1)
    anywhere = get_close_matches(name, known - {parent}, n=1)
    return f"{parent}{dot}{near[0]}" if near else next(iter(anywhere), None)


def known_parameters(conf_source: Path) -> set[str]:
    """Dotted names of every parameter that exists in the folder ``conf``.

    Those are the ones in the parameter files of ``conf/base``, and those that a catalog takes
    from the command line alone, such as ``raw_root``. The files are read as plain YAML: a
    second config loader would take over the first one's global resolvers.
    """
    known: set[str] = set()
    for file in (conf_source / "base").rglob("parameters*.yml"):
        known |= set(dotted_names(yaml.load(file.read_text(), _LOADER) or {}))
    for file in conf_source.rglob("*.yml"):
        known |= set(_RUNTIME_PARAMETER.findall(file.read_text()))
    return known


def unused_places(given: Iterable[str], used: Collection[str], conf_source: Path) -> list[str]:
    """A sentence for each file or folder named on the command line that a run doesn't touch.

    Args:
        given: Names of the parameters on the command line.
        used: Names of the datasets of the run.
        conf_source: The folder ``conf``, whose catalogs take places from such parameters.
    """
    entries: dict[str, set[str]] = {}
    for file in conf_source.rglob("catalog*.yml"):
        for dataset, entry in (yaml.load(file.read_text(), _LOADER) or {}).items():
            for name in _RUNTIME_PARAMETER.findall(str(entry)):
                entries.setdefault(name, set()).add(dataset)
    return [
        f"The parameter {name} has no effect here: no node of this run uses "
        f"{' or '.join(sorted(entries[name]))}."
        for name in given
        # A name with an underscore is a part of others' places.
        if name in entries and not any(one in used or one[0] == "_" for one in entries[name])
    ]
