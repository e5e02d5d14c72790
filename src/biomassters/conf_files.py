"""Configuration files, looked at before Kedro reads them.

YAML may name Python objects to build, refer to itself without end, or stand for millions of values
in a few lines. Kedro's reader builds no objects, but answers all of these with a traceback that
doesn't name the file, or not at all.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

from biomassters.errors import BadInputError
from biomassters.io.files import read_regular

_SUFFIXES = (".yml", ".yaml", ".json")  # as Kedro's loader
_MOST_BYTES = 2**20
_MOST_VALUES = 100_000
# Python's own limit is not the same in every process: some libraries raise it.
_DEEPEST = 100
# libyaml's is ten times as fast; both know the same tags.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = {*_LOADER.yaml_constructors, "tag:yaml.org,2002:merge"}


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
        root = yaml.compose(read_regular(path, _MOST_BYTES).decode(), Loader=_LOADER)
        if root is not None:
            if not isinstance(root, yaml.MappingNode):
                raise _fault("it holds no names", root)
            _count(root, {})
    except RecursionError:
        fault = "nests too deeply"
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        fault = f"is no plain YAML{line} ({error.problem})"
    except (UnicodeDecodeError, yaml.YAMLError):
        fault = "is no text"
    else:
        return
    raise BadInputError(f"{path} {fault}: write plain values there, as the files in conf/base do.")


def _fault(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _count(node: yaml.Node, known: dict[int, int], depth: int = 0) -> int:
    """How many values a node stands for, each as often as it is referred to."""
    size = known.get(id(node))
    if size == 0:
        raise _fault("it contains itself", node)
    if size is None:
        if node.tag not in _TAGS:
            raise _fault(f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')}", node)
        if depth > _DEEPEST:
            raise RecursionError
        known[id(node)] = 0  # is being looked at
        size = 1 + sum(_count(inner, known, depth + 1) for inner in _inside(node))
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
