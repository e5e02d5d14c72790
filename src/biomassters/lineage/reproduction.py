"""A recorded run against what is here: code, packages, parameters, data.

``differences`` names what isn't as it was; ``pipelines_of`` and ``parameters_of`` say what has to
be run, for ``biomassters reproduce``, which then runs it under another name and compares.
"""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DatasetError
from omegaconf import OmegaConf

from biomassters.errors import BadInputError
from biomassters.lineage.chip_counts import fingerprint_of
from biomassters.lineage.run_comparison import fingerprints_of
from biomassters.lineage.run_record import code_version
from biomassters.messages import HIDDEN, listed, redacted
from biomassters.reporting.model_card import flatten, package_versions

# Datasets whose fingerprint is that of their content; maps have that of the weights that made them.
_CONTENT = ("chip_store", "fit_weights", "final_weights")


def pipelines_of(record: Mapping[str, Any]) -> list[str]:
    """Pipelines that have a record's nodes between them.

    Raises:
        BadInputError: A node is no more.
    """
    chosen, left = [], set(record["nodes"])
    # The small ones first: those that join others would bring nodes that make the same datasets.
    for name in sorted(pipelines, key=lambda one: len(pipelines[one].nodes)):
        found = left & {node.name for node in pipelines[name].nodes}
        if found:
            chosen.append(name)
            left -= found
    if left:
        raise BadInputError(
            f"The run has nodes that this version hasn't ({listed(sorted(left))}): install version "
            f"{record['runs'][-1]['code']['version']}, which made it."
        )
    return chosen


def parameters_of(record: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a record's last run, given ones in the place of recorded ones; nested.

    Raises:
        BadInputError: One was a secret, which no record holds.
    """
    merged = OmegaConf.merge(record["runs"][-1]["parameters"], given)
    parameters: Any = OmegaConf.to_container(merged)
    secrets = sorted(name for name, text in flatten(parameters) if HIDDEN in text)
    if secrets:
        raise BadInputError(
            f"The record hides {listed(secrets)}, which held a secret: give it again with "
            f"'--params {secrets[0]}=VALUE'."
        )
    return dict(parameters)


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
    last, code = record["runs"][-1], code_version(project)
    known = {name: one for name, one in fingerprints_of(record).items() if name in _CONTENT}
    here = {name: _fingerprint(catalog, name) for name in known}
    python, packages = last["machine"]["python"], last["machine"]["packages"]
    then = _facts(last["code"], python, packages, last["parameters"], known)
    now = _facts(code, platform.python_version(), package_versions(), redacted(parameters), here)
    gone = "not there"
    lines = [
        f"{name}: was {then.get(name, gone)}, is {now.get(name, gone)}"
        for name in (then | now)
        if then.get(name) != now.get(name)
    ]
    # Commits alone don't tell what lay uncommitted in the folder, then and now.
    if last["code"]["changed"] and last["code"] == code:
        lines.append("code: had uncommitted changes, and has; nobody noted which")
    earlier = sorted({node["run"] for node in record["nodes"].values()} - {last["started"]})
    if earlier:
        lines.append(
            f"parameters of nodes run at {listed(earlier)}: not in the record, which holds the "
            "last run's; they are taken for the same"
        )
    return lines


def _facts(
    code: Mapping[str, Any],
    python: str,
    packages: Mapping[str, str],
    parameters: Mapping[str, Any],
    data: Mapping[str, str | None],
) -> dict[str, str]:
    """All that a run depends on, by the words that name it."""
    facts = {
        **{f"code {name}": value for name, value in code.items()},
        "Python": python,
        **{f"package {name}": value for name, value in packages.items()},
        **dict(flatten(parameters, "parameter ")),
        **{f"data {name}": value and value[:12] for name, value in data.items()},
    }
    facts.pop("parameter run", None)  # a name is no difference
    return {name: str(value) for name, value in facts.items() if value is not None}


def _fingerprint(catalog: CatalogProtocol, name: str) -> str | None:
    try:
        if name not in catalog or not catalog.exists(name):
            return None
        return fingerprint_of(catalog.load(name))
    except (DatasetError, BadInputError):
        return "damaged"


def same_bits(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, bool]:
    """Whether the fingerprints in two records are the same, of each dataset that both have."""
    then, now = fingerprints_of(one), fingerprints_of(other)
    return {name: then[name] == now[name] for name in _CONTENT if name in then and name in now}
