"""A recorded run against what is here: code, packages, parameters, data.

``differences`` names what isn't as it was; ``rerun_of`` is what has to be run, for
``biomassters reproduce``, which then runs it under another name and compares the results.
"""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DatasetError

from biomassters.errors import BadInputError
from biomassters.lineage.chip_counts import fingerprint_of
from biomassters.lineage.run_comparison import named_parameters
from biomassters.lineage.run_record import code_version
from biomassters.messages import HIDDEN, listed
from biomassters.reporting.model_card import flatten, package_versions

_SHOWN = 12  # digits of a fingerprint
# Datasets whose fingerprint is that of their content; maps have that of the weights that made them.
_CONTENT = ("chip_store", "fit_weights", "final_weights")


@dataclass(frozen=True)
class Rerun:
    """What makes a run's results again.

    Attributes:
        environment: Kedro's.
        pipelines: That have the nodes.
        nodes: Every node that the record holds.
        parameters: Of the last run, all of them.
    """

    environment: str | None
    pipelines: tuple[str, ...]
    nodes: tuple[str, ...]
    parameters: dict[str, Any]


def rerun_of(record: Mapping[str, Any], given: Mapping[str, Any]) -> Rerun:
    """What has to be run to make the results of a record again.

    Args:
        record: As ``read_record`` gives it.
        given: Parameters that replace recorded ones, nested.

    Raises:
        BadInputError: A node is no more, or a parameter was a secret, which no record holds.
    """
    last, nodes = record["runs"][-1], set(record["nodes"])
    having = {
        name: {node.name for node in pipelines[name].nodes} & nodes
        for name in pipelines
        if name != "__default__"
    }
    gone = sorted(nodes.difference(*having.values()))
    if gone:
        raise BadInputError(
            f"The run has nodes that this version hasn't ({listed(gone)}): install version "
            f"{last['code']['version']}, which made it."
        )
    parameters = _replaced(last["parameters"], given)
    secrets = sorted(name for name, text in flatten(parameters) if HIDDEN in text)
    if secrets:
        raise BadInputError(
            f"The record hides {listed(secrets)}, which held a secret: give it again with "
            f"'--params {secrets[0]}=VALUE'."
        )
    # The small ones first: those that join others would bring nodes that make the same datasets.
    left, chosen = set(nodes), []
    for name in sorted(having, key=lambda one: len(pipelines[one].nodes)):
        if having[name] & left:
            chosen.append(name)
            left -= having[name]
    return Rerun(last["environment"], tuple(sorted(chosen)), tuple(sorted(nodes)), parameters)


def _replaced(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with others in the place of some."""
    result = dict(values)
    for name, value in given.items():
        before = result.get(name)
        both = isinstance(value, Mapping) and isinstance(before, Mapping)
        result[name] = _replaced(before, value) if both else value  # type: ignore[arg-type]
    return result


def differences(
    record: Mapping[str, Any],
    project: Path,
    parameters: Mapping[str, Any],
    catalog: CatalogProtocol,
) -> list[str]:
    """A line for everything that isn't as the record has it.

    Args:
        record: As ``read_record`` gives it.
        project: The project's folder.
        parameters: Of the run's environment, as they are now.
        catalog: Of the run.
    """
    last = record["runs"][-1]
    machine = last["machine"]
    known = _recorded(record)
    facts: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
        "code": (last["code"], code_version(project)),
        "Python": ({"": machine["python"]}, {"": platform.python_version()}),
        "package": (machine["packages"], package_versions()),
        "parameter": (named_parameters(last["parameters"]), named_parameters(parameters)),
        "data": (
            {name: one[:_SHOWN] for name, one in known.items()},
            {name: _fingerprint(catalog, name) for name in known},
        ),
    }
    lines = [line for what, sides in facts.items() for line in _changes(what, *sides)]
    # Commits alone don't tell what lay uncommitted in the folder, then and now.
    if last["code"]["changed"] and last["code"] == code_version(project):
        lines.append("code: had uncommitted changes, and has; nobody noted which")
    earlier = sorted({node["run"] for node in record["nodes"].values()} - {last["started"]})
    if earlier:
        lines.append(
            f"parameters of nodes run at {listed(earlier)}: not in the record, which holds the "
            "last run's; they are taken for the same"
        )
    return lines


def _changes(what: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(then.keys() | now.keys()):
        before, after = then.get(name), now.get(name)
        if before != after:
            yield (
                f"{what} {name}".rstrip()
                + f": was {'not there' if before is None else before}, "
                + f"is {'not there' if after is None else after}"
            )


def _recorded(record: Mapping[str, Any]) -> dict[str, str]:
    """The last known fingerprint of each dataset."""
    found: dict[str, str] = {}
    for node in sorted(record["nodes"].values(), key=lambda one: one["run"]):
        prints = node["fingerprints"]
        found |= {name: prints[name] for name in _CONTENT if name in prints}
    return found


def _fingerprint(catalog: CatalogProtocol, name: str) -> str | None:
    try:
        if name not in catalog or not catalog.exists(name):
            return None
        found = fingerprint_of(catalog.load(name))
    except (DatasetError, BadInputError):
        return "damaged"
    return found and found[:_SHOWN]


def same_bits(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, bool]:
    """Whether the fingerprints in two records are the same, of each dataset that both have."""
    then, now = _recorded(one), _recorded(other)
    return {name: then[name] == now[name] for name in sorted(then.keys() & now.keys())}
