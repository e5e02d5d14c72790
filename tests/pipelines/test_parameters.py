"""The parameter files against the options models that read them."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from biomassters.imagery.options import ImageryOptions
from biomassters.inference.options import InferenceOptions
from biomassters.lineage.tracking import TrackingOptions
from biomassters.network.options import NetworkOptions
from biomassters.pipelines.data_engineering.options import DataEngineeringOptions
from biomassters.pipelines.sweep.options import SweepOptions
from biomassters.plots.options import ChangeOptions, PlotsOptions
from biomassters.regions.options import MappingOptions, RegionChipsOptions
from biomassters.reporting.options import ReportingOptions
from biomassters.simulation.options import (
    RegionSimulationOptions,
    SceneSimulationOptions,
    SimulationOptions,
)
from biomassters.training.few_chips import AdaptOptions
from biomassters.training.options import TrainingOptions
from biomassters.uncertainty.options import UncertaintyOptions

CONF = Path(__file__).parents[2] / "conf"
MODELS = {
    "adapt": AdaptOptions,
    "change": ChangeOptions,
    "chips_from_region": RegionChipsOptions,
    "data_engineering": DataEngineeringOptions,
    "imagery": ImageryOptions,
    "inference": InferenceOptions,
    "mapping": MappingOptions,
    "network": NetworkOptions,
    "plots": PlotsOptions,
    "region_simulation": RegionSimulationOptions,
    "reporting": ReportingOptions,
    "scene_simulation": SceneSimulationOptions,
    "simulation": SimulationOptions,
    "sweep": SweepOptions,
    "tracking": TrackingOptions,
    "training": TrainingOptions,
    "uncertainty": UncertaintyOptions,
}


def in_file(environment: str, name: str) -> dict:
    parameters: dict = {}
    for file in (CONF / environment).glob("parameters*.yml"):
        parameters |= yaml.safe_load(file.read_text().replace("${globals:raw_writable}", "true"))
    return parameters.get(name, {})


def shape(values):
    """Names alone, nested."""
    return {k: shape(v) if isinstance(v, dict) else None for k, v in values.items()}


def names(model: type[BaseModel]) -> dict:
    return shape(model().model_dump())


@pytest.mark.parametrize("name", MODELS)
def test_base_lists_every_option_and_no_other(name):
    assert shape(in_file("base", name)) == names(MODELS[name])


@pytest.mark.parametrize("name", MODELS)
def test_base_holds_the_defaults_of_the_models(name):
    values = in_file("base", name) | ({"dataset": "simulated"} if name == "reporting" else {})
    assert MODELS[name].model_validate(values) == MODELS[name]()


@pytest.mark.parametrize(
    "environment",
    ["biomassters", "biomassters_small", "few_chips", "own_forest", "starter", "test"],
)
@pytest.mark.parametrize("name", MODELS)
def test_environments_override_what_exists_with_values_that_are_valid(environment, name):
    MODELS[name].model_validate(in_file(environment, name))
