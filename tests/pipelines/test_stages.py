"""Stages one after another: what each starts from, is resumed, found finished, or refused."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from biomassters.chips.scaling import BandScaling
from biomassters.datasets.network_weights import NetworkWeightsDataset
from biomassters.errors import BadInputError
from biomassters.network.options import NetworkOptions
from biomassters.pipelines.training.stages import StageRunner
from biomassters.training.options import TrainingOptions

pytestmark = pytest.mark.slow

NETWORK = NetworkOptions(
    backbone="tf_mobilenetv3_small_minimal_100", decoder_channels=(16, 16, 8, 8, 8)
)
REFERENCE = BandScaling.reference()
OTHER = replace(REFERENCE, maximum={**REFERENCE.maximum, "B8": 9000.0})
FIT = {"name": "fit", "epochs": 2}
TUNE = {"name": "tune", "epochs": 1, "learning_rate": 1e-3, "final_learning_rate": 5e-4,
        "chips": "all", "start": "last"}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _small_tensors(one_thread):
    """Tensors this small are slower on more threads."""


@pytest.fixture
def run(store, tmp_path):
    """Runs stages in one place, as the same command would."""
    chips = store.split("train").chip_ids
    folds = pd.DataFrame({"chip_id": chips, "fold": np.arange(len(chips)) % 3})

    def go(*stages, scaling=REFERENCE, network=NETWORK, numbers=None, **changes):
        options = {
            "stages": stages, "epochs": 1, "batch_size": 4, "device": "cpu",
            "learning_rate": 3e-3, "ema_decay": None, "validate_every_epochs": 1, **changes,
        }  # fmt: skip
        training = TrainingOptions.model_validate(options)
        places = tmp_path / "checkpoints", tmp_path / "events"
        parts = folds if numbers is None else folds.assign(fold=numbers)
        return StageRunner(store, parts, scaling, network, training, *places).run()

    return go


def equal(one, other):
    a, b = one.first.state_dict(), other.first.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def files(tmp_path, stage):
    folder = tmp_path / "checkpoints" / stage
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}


def test_two_stages_and_what_is_told_of_them(run):
    fit, final, history = run(FIT, TUNE)
    assert (fit.description["held_out_fold"], fit.description["stage"]) == (0, "fit")
    assert fit.description["started_from"] is None
    assert final.description["held_out_fold"] is None
    assert final.description["trained_on"]["chips"] == 12
    assert final.description["started_from"]["fingerprint"] == fit.fingerprint
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["stage"].tolist() == ["fit", "fit", "tune"]
    assert history["stage_epoch"].tolist() == [1, 2, 1]
    assert history["learning_rate"].tolist() == pytest.approx([3e-3, 1.5e-3, 1e-3])
    scores = history["validation_rmse_unclipped_per_chip_mean"]
    assert np.isfinite(scores[:2]).all()
    assert np.isnan(scores[2])


def test_a_later_stage_also_ends_where_it_should(run):
    """Its own cosine falls to its own final rate; that of ``training`` isn't its."""
    *_, history = run(FIT, {**TUNE, "epochs": 4}, final_learning_rate=2e-3)
    rates = history.loc[history["stage"] == "tune", "learning_rate"]
    share = [(1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert rates.tolist() == pytest.approx([5e-4 + 5e-4 * one for one in share])


def test_finished_stages_are_found_and_a_new_one_goes_on(run, tmp_path, caplog):
    fit, *_ = run(FIT)
    before = files(tmp_path, "fit")
    with caplog.at_level(logging.INFO):
        again, _, history = run(FIT, TUNE)
    assert "Training is complete in" in caplog.text
    assert files(tmp_path, "fit") == before
    assert equal(fit, again)
    assert len(history) == 3


def test_a_changed_stage_is_refused_and_restarts_alone(run, tmp_path):
    run(FIT, TUNE)
    before = files(tmp_path, "fit")
    changed = {**TUNE, "epochs": 2}
    with pytest.raises(BadInputError, match=r"epochs was 1, is 2.*restart: true of one stage"):
        run(FIT, changed)
    _, _, history = run(FIT, {**changed, "restart": True})
    assert len(history) == 4
    assert files(tmp_path, "fit") == before


def test_a_stage_that_is_skipped_or_not_reached_yet(run, tmp_path):
    fit, final, history = run(FIT, {**TUNE, "epochs": 0})
    assert fit.description == final.description
    assert len(history) == 2
    run(FIT, TUNE, stop_after="fit")
    assert not files(tmp_path, "tune")


def test_best_and_last_are_other_starts(run):
    """At a rate that doesn't fall this network is best in its first epoch."""
    steady = {**FIT, "final_learning_rate": 3e-3, "epochs": 3}
    first, _, history = run(steady, keep="best")
    last, *_ = run(steady, keep="last")
    assert history["validation_rmse_per_chip_mean"].argmin() < 2
    assert not equal(first, last)
    from_best = run(steady, {**TUNE, "name": "b", "start": "best"}, keep="best")
    from_last = run(steady, {**TUNE, "name": "l", "start": "last"}, keep="best")
    assert not equal(from_best[1], from_last[1])
    # Whatever a stage starts from, its maps borrow the intervals of the weights that are kept.
    for fit, final, _ in (from_best, from_last):
        assert final.description["started_from"]["fingerprint"] == fit.fingerprint


def test_two_folds_go_on_as_two_networks(run):
    fit, final, history = run(FIT, TUNE, folds=[0, 2])
    assert [one.description["held_out_fold"] for one in fit.members] == [0, 2]
    assert len(final.members) == 2
    assert final.description["started_from"]["fingerprint"] == fit.fingerprint
    assert (history["stage"] == "tune").sum() == 2


@pytest.fixture
def before(run, tmp_path):
    """Weights of an earlier training on the same chips, in a file, and what they are."""
    fit, *_ = run({**FIT, "name": "before"})
    file = tmp_path / "w.safetensors"
    NetworkWeightsDataset(filepath=str(file)).save(fit)
    return str(file), fit


def test_weights_from_a_file_start_a_stage(run, before):
    file, fit = before
    same_fold, *_ = run({**FIT, "name": "goes_on", "start": file})
    assert same_fold.description["held_out_fold"] == 0
    assert same_fold.description["started_from"]["fingerprint"] == fit.fingerprint
    other_fold, *_ = run({**FIT, "name": "other", "start": file}, folds=[1])
    assert other_fold.description["held_out_fold"] is None
    assert "may have seen" in other_fold.description["validation_note"]


def test_a_fold_of_the_same_number_with_other_chips_may_have_been_seen(run, before):
    file, _ = before
    moved = np.arange(12) // 4
    found, *_ = run({**FIT, "name": "moved", "start": file}, numbers=moved)
    assert found.description["held_out_fold"] is None


def test_what_would_start_new_starts_from_the_weights_that_are_named(run, before):
    """With a learning rate of next to nothing they stay, the last layer too."""
    file, fit = before
    still = {**FIT, "name": "still", "epochs": 1, "learning_rate": 1e-12}
    found, *_ = run(still, start_from_weights=file, weight_decay=0.0)
    assert found.description["started_from"]["fingerprint"] == fit.fingerprint
    head = "segmentation_head.weight"
    torch.testing.assert_close(found.first.state_dict()[head], fit.first.state_dict()[head])


def test_another_scaling_is_refused_or_kept_on_purpose(run, before):
    file, _ = before
    start = {"start_from_weights": file, "scaling": OTHER}
    stage = {**FIT, "name": "scaled", "epochs": 1}
    with pytest.raises(BadInputError, match=r"scales 1 of 15 bands otherwise .*B8: 0 to .*9000"):
        run(stage, **start)
    found, *_ = run(stage, **start, start_scaling="chips")
    assert found.first.scaling == OTHER


def test_weights_of_another_network_are_refused_with_what_they_are(run, before):
    file, _ = before
    other = NETWORK.model_copy(update={"decoder_channels": (8, 8, 8, 8, 8)})
    with pytest.raises(BadInputError, match=r"network.decoder_channels=\[16, 16, 8, 8, 8\]"):
        run(FIT, network=other, start_from_weights=file)


def test_a_file_of_too_many_networks(run, tmp_path):
    fit, *_ = run({**FIT, "epochs": 1, "name": "before"}, folds=[0, 1])
    file = tmp_path / "w.safetensors"
    NetworkWeightsDataset(filepath=str(file)).save(fit)
    with pytest.raises(BadInputError, match="holds 2 networks, but stage fit trains 1"):
        run({**FIT, "start": str(file)})
