"""What is said before the first node."""

import os
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from kedro.framework.project import configure_project
from kedro.io import DataCatalog, MemoryDataset

from biomassters.datasets.network_weights import NetworkWeightsDataset
from biomassters.datasets.paths import FolderDataset
from biomassters.datasets.predictions import SubmissionDataset
from biomassters.network.options import NetworkOptions
from biomassters.network.window import untrained_kernels
from biomassters.pipelines.data_engineering.options import DataEngineeringOptions
from biomassters.pipelines.sweep.options import SweepOptions
from biomassters.preflight import option_checks
from biomassters.preflight.hook import faults
from biomassters.preflight.input_checks import check_inputs, check_named_files
from biomassters.preflight.option_checks import (
    check_backbone,
    check_crop,
    check_devices,
    check_folds,
    check_pretrained_weights,
    check_runner,
    check_scheduler,
    check_submission_format,
    check_sweep,
    check_window,
    occurs_in_timm,
)
from biomassters.preflight.output_checks import (
    DEFAULT_NETWORK_BYTES,
    _built_bytes,
    check_disk,
    check_outputs,
)
from biomassters.preflight.planned_run import PlannedRun
from biomassters.regions.options import MappingOptions
from biomassters.simulation.options import SimulationOptions
from biomassters.training.options import TrainingOptions
from biomassters.workers.options import DaskOptions


def planned(*names, **datasets):
    """A run of real pipelines; ``options__x`` stands for ``params:x``."""
    pipeline = sum(
        (import_module(f"biomassters.pipelines.{one}").create_pipeline() for one in names[1:]),
        import_module(f"biomassters.pipelines.{names[0]}").create_pipeline(),
    )
    catalog = DataCatalog()
    for name, value in datasets.items():
        if name.startswith("options__"):
            catalog[name.replace("options__", "params:")] = MemoryDataset(value, copy_mode="assign")
        else:
            catalog[name] = value
    return PlannedRun(pipeline, catalog)


def said(check, run):
    return " ".join(check(run))


def test_a_backbone_that_timm_lacks_is_refused_with_its_neighbours():
    run = planned("training", options__network=NetworkOptions(backbone="resnt34"))
    assert "timm knows no backbone 'resnt34'; did you mean resnet34" in said(check_backbone, run)


def test_a_backbone_without_five_levels_is_refused():
    run = planned(
        "simulation",
        "training",
        options__network=NetworkOptions(backbone="vit_tiny_patch16_224"),
        options__training=TrainingOptions(),
        options__simulation=SimulationOptions(),
    )
    assert "features at strides [16, 16, 16]" in said(check_backbone, run)
    assert not said(check_window, run)  # one sentence is enough


@pytest.mark.parametrize("name", [NetworkOptions().backbone, "tf_efficientnetv2_l_in21k"])
def test_a_fitting_backbone_passes_by_any_of_its_names(name):
    assert not said(check_backbone, planned("training", options__network=NetworkOptions(
        backbone=name)))  # fmt: skip


def test_names_that_timm_knows_occur_in_its_sources():
    import timm
    from timm.models import get_deprecated_models

    names = sorted({*timm.list_models(), *get_deprecated_models()})
    assert len(names) > 1000
    some = names[::30]  # all of them take two minutes
    assert not [name for name in some if not occurs_in_timm(name)]


def test_the_default_network_is_as_large_as_it_is_said_to_be():
    assert _built_bytes(NetworkOptions()) == DEFAULT_NETWORK_BYTES


@pytest.mark.parametrize("device", ["cuda:63", "mps"])
def test_a_device_that_is_not_here_is_refused_where_it_is_used(device):
    training = TrainingOptions(device=device)
    found = said(check_devices, planned("training", options__training=training))
    assert f"training.device: this machine has no {device}" in found
    assert not said(check_devices, planned("inference", options__training=training))


def test_a_scheduler_that_is_not_there_is_refused_where_it_is_used():
    dask = DaskOptions(scheduler_address="tcp://127.0.0.1:9", connect_timeout_s=0.5)
    found = said(check_scheduler, planned("data_engineering", options__dask=dask))
    assert "nobody answers at tcp://127.0.0.1:9 within 0.5 s" in found
    assert not said(check_scheduler, planned("training", options__dask=dask))
    assert not said(check_scheduler, planned("data_engineering", options__dask=DaskOptions()))


def test_what_stays_in_memory_is_not_for_another_process():
    plan = {"region_plan": MemoryDataset(copy_mode="assign")}
    run = planned("mapping", **plan)
    assert said(check_runner, run) == ""
    runner = "<kedro.runner.parallel_runner.ParallelRunner object>"
    assert "can't hand on region_plan, which" in said(check_runner, replace(run, runner=runner))
    run = planned("data_engineering", **plan)
    assert said(check_runner, replace(run, runner=runner)) == ""


def test_folds_beyond_those_that_will_be_made_are_refused():
    options = {"options__training": TrainingOptions(folds=(0, 99)),
               "options__data_engineering": DataEngineeringOptions()}  # fmt: skip
    found = said(check_folds, planned("data_engineering", "training", **options))
    assert "names fold 99, but by data_engineering.folds.count there are 5" in found
    fitting = options | {"options__training": TrainingOptions(folds=(0, 4))}
    assert not said(check_folds, planned("data_engineering", "training", **fitting))


def test_folds_beyond_those_that_are_there_are_refused(tmp_path):
    import pandas as pd
    from kedro_datasets.pandas import ParquetDataset

    file = tmp_path / "folds.parquet"
    pd.DataFrame({"chip_id": ["a", "b", "c"], "fold": [0, 1, 2]}).to_parquet(file)
    run = planned("training", folds=ParquetDataset(filepath=str(file)),
                  options__training=TrainingOptions(folds=(3,)))  # fmt: skip
    assert "names fold 3" in said(check_folds, run)
    assert "there are 3, numbered 0 to 2" in said(check_folds, run)


def test_a_crop_larger_than_the_chips_to_come_is_refused():
    run = planned("simulation", "training", options__training=TrainingOptions(crop=128),
                  options__simulation=SimulationOptions())  # fmt: skip
    assert "training.crop is 128 pixels, but simulation.chip_size is 96" in said(check_crop, run)


def test_crops_that_leave_kernels_untrained_are_refused():
    given = {"options__network": NetworkOptions(), "options__simulation": SimulationOptions()}
    small = planned("simulation", "training", options__training=TrainingOptions(crop=64), **given)
    assert "training.crop is 64 pixels, on which" in said(check_window, small)
    given["options__simulation"] = SimulationOptions(chip_size=64)
    chips = planned("simulation", "training", options__training=TrainingOptions(), **given)
    assert "simulation.chip_size is 64 pixels, on which" in said(check_window, chips)


def test_the_defaults_train_every_kernel():
    """They are not looked at before a run, so they are looked at here."""
    assert not untrained_kernels(NetworkOptions().backbone, SimulationOptions().chip_size)
    assert TrainingOptions().crop is None


def test_pretrained_weights_out_of_reach_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    wanted = {"pretrained": True, "backbone": "resnet18"}
    run = planned("training", options__network=NetworkOptions(**wanted))
    assert "network.pretrained asks for weights of" in said(check_pretrained_weights, run)
    allowed = NetworkOptions(**wanted, allow_random_start=True)
    run = planned("training", options__network=allowed)
    assert not said(check_pretrained_weights, run)


def test_an_unknown_format_of_the_submission_is_refused(tmp_path):
    run = planned("submission", submission=SubmissionDataset(filepath=f"{tmp_path}/x.rar"))
    assert "submission_format: " in said(check_submission_format, run)


def test_files_that_parameters_name_must_be_there_and_whole(tmp_path):
    broken = tmp_path / "w.safetensors"
    broken.write_bytes(b"no weights")
    broken.with_suffix(".json").write_text("{}")
    options = MappingOptions.model_validate(
        {"ensemble": ["nowhere.safetensors", str(broken)], "area": {"file": "x.json"}}
    )
    found = list(check_named_files(planned("mapping", options__mapping=options)))
    assert len(found) == 3
    assert "There is no file nowhere.safetensors" in found[0]
    assert "can't be read (damaged or of another format)" in found[1]
    assert "mapping.area.file: there is no file x.json" in found[2]


def test_missing_inputs_are_named_with_the_pipelines_that_make_them(tmp_path):
    configure_project("biomassters")
    weights = NetworkWeightsDataset(filepath=str(tmp_path / "w.safetensors"))
    run = planned("prediction", final_weights=weights, prediction_archive=FolderDataset(
        filepath=str(tmp_path)))  # fmt: skip
    found = said(check_inputs, run)
    assert "final_weights is not there" in found
    assert "'--pipelines training' or '--pipelines reference_weights'" in found


def test_what_a_run_makes_itself_is_not_asked_for():
    configure_project("biomassters")
    pipeline = planned("simulation").pipeline
    assert not said(check_inputs, PlannedRun(pipeline, DataCatalog()))


def test_a_folder_that_nothing_can_be_written_to_is_named(tmp_path):
    if os.geteuid() == 0:
        place = Path("/proc/nowhere")  # where root can't write, either
    else:
        tmp_path.chmod(0o500)
        place = tmp_path / "nowhere"
    run = planned("submission", submission=SubmissionDataset(filepath=f"{place}/x.tar"))
    assert "Nothing can be written to" in said(check_outputs, run)
    there = planned("submission", submission=SubmissionDataset(filepath=f"{Path.cwd()}/x.tar"))
    assert not said(check_outputs, there)


def test_a_disk_without_room_is_named_with_what_is_needed(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    archive = FolderDataset(filepath=str(tmp_path / "raw"))
    chips = 4 * free // (96 * 96 * 450)
    run = planned("simulation", raw_archive=archive, options__simulation=SimulationOptions(
        train_chips=chips))  # fmt: skip
    assert "simulating" in said(check_disk, run)
    assert "0.0 GB" not in said(check_disk, run)
    small = planned("simulation", raw_archive=archive, options__simulation=SimulationOptions(
        train_chips=1, test_chips=0))  # fmt: skip
    assert not said(check_disk, small)


def test_all_that_is_wrong_is_said_at_once():
    run = planned("simulation", "training", options__training=TrainingOptions(crop=128, folds=(1,)),
                  options__simulation=SimulationOptions(),
                  options__network=NetworkOptions(backbone="resnt34"))  # fmt: skip
    found = " ".join(faults(run))
    assert "training.crop" in found
    assert "network.backbone" in found


def planned_sweep(*parameters):
    options = {"parameters": parameters} if parameters else {}
    return planned(
        "sweep",
        options__sweep=SweepOptions.model_validate(options),
        options__network=NetworkOptions(),
        options__training=TrainingOptions(),
    )


def test_a_sweep_without_optuna_is_told_how_to_install_it(monkeypatch):
    monkeypatch.setattr(option_checks, "find_spec", lambda name: None)
    (sentence,) = check_sweep(planned_sweep())
    assert "uv sync --extra sweep" in sentence


def test_a_sweep_over_what_there_is_not_is_refused(optional):
    optional("optuna")
    assert not list(check_sweep(planned_sweep()))
    backbones = {"name": "network.backbone", "choices": ["resnet18", "resnet81"]}
    (sentence,) = check_sweep(planned_sweep(backbones))
    assert "timm knows no backbone 'resnet81'" in sentence
    (sentence,) = check_sweep(planned_sweep({"name": "training.epoch", "low": 1, "high": 2}))
    assert "did you mean 'training.epochs'?" in sentence
