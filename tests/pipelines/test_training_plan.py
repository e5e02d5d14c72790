"""Which weights a training begins with, and which of them are kept."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.network.options import NetworkOptions
from biomassters.network.weights import save_network
from biomassters.pipelines.training.nodes import plan_fit, train_stage
from biomassters.pipelines.training.plan import TrainedNetwork
from biomassters.training.options import TrainingOptions
from biomassters.training.state import TrainingResult
from biomassters.training.train import new_network

SCORE = "validation_rmse_per_chip_mean"


@pytest.fixture
def trained():
    def make(scores, best_epoch, best_score):
        history = pd.DataFrame({"epoch": range(1, len(scores) + 1), SCORE: scores})
        result = TrainingResult(
            best_state={"best": None},
            last_state={"last": None},
            history=history,
            timing=history[["epoch"]],
            best_epoch=best_epoch,
            best_score=best_score,
        )
        return TrainedNetwork(None, {"held_out_fold": 0}, result)

    return make


def test_the_last_weights_are_kept_with_the_last_score(trained):
    kept = trained([40.0, 30.0, 33.0], 2, 30.0).kept("last")
    assert kept.state == {"last": None}
    assert kept.description == {"held_out_fold": 0, "epoch": 3, "validation_rmse": 33.0}


def test_the_best_weights_are_kept_with_the_best_score(trained):
    kept = trained([40.0, 30.0, 33.0], 2, 30.0).kept("best")
    assert kept.state == {"best": None}
    assert kept.description == {"held_out_fold": 0, "epoch": 2, "validation_rmse": 30.0}


@pytest.mark.parametrize("keep", ["last", "best"])
def test_without_validation_there_is_no_score(trained, keep):
    nan = float("nan")
    kept = trained([nan, nan], None, None).kept(keep)
    assert (kept.description["epoch"], kept.description["validation_rmse"]) == (2, None)


SMALL = NetworkOptions(
    backbone="mobilenetv3_small_050", pretrained=False, decoder_channels=(16, 16, 8, 8, 8)
)
OWN = replace(BandScaling.reference(), maximum={**BandScaling.reference().maximum, "B8": 9000.0})


@pytest.fixture
def elsewhere(tmp_path, new_small_network):
    """Weights of another place, in a file."""
    path = tmp_path / "elsewhere.safetensors"
    save_network(new_small_network(7), path, {"trained_on": {"dataset": "elsewhere"}})
    return path


def planned(path, scaling=None, network=SMALL, **options):
    options = TrainingOptions(start_from_weights=str(path), **options)
    return plan_fit((scaling or BandScaling.reference()).to_dict(), network, options)


def test_every_fold_begins_with_the_weights(elsewhere, new_small_network):
    plan = planned(elsewhere, folds=(0, 2))
    assert len(plan.starts) == 2
    assert plan.starts[0].network is not plan.starts[1].network
    assert plan.trained_before  # so that the last layer is not scaled to the labels
    assert plan.started_from["trained_on"] == {"dataset": "elsewhere"}
    for name, value in new_small_network(7).state_dict().items():
        assert torch.equal(plan.starts[1].first.state_dict()[name], value), name


def test_another_scaling_is_refused_or_kept_on_purpose(elsewhere, new_small_network):
    with pytest.raises(BadInputError, match=r"scale 1 of 15 bands otherwise .*B8: 0 to .*9000"):
        planned(elsewhere, OWN)
    start = planned(elsewhere, OWN, start_scaling="chips").starts[0].first
    assert start.scaling == OWN
    state, theirs = start.state_dict(), new_small_network(7).state_dict()
    differ = {name for name in state if not torch.equal(state[name], theirs[name])}
    assert differ == {"scaler.range"}


def test_weights_of_another_network_are_refused_with_what_they_are(elsewhere):
    other = SMALL.model_copy(update={"decoder_channels": (8, 8, 8, 8, 8)})
    with pytest.raises(BadInputError, match=r"network.decoder_channels=\[16, 16, 8, 8, 8\]"):
        planned(elsewhere, network=other)


def test_several_networks_are_no_start(tmp_path, new_small_network):
    for name, members in (("a", ["b.safetensors"]), ("b", [])):
        save_network(new_small_network(), tmp_path / f"{name}.safetensors", {"members": members})
    with pytest.raises(BadInputError, match="are several networks: name one of"):
        planned(tmp_path / "a.safetensors")


@pytest.mark.slow
def test_training_goes_on_from_the_weights(tmp_path, store, small_options, one_thread):
    """With a learning rate of next to nothing they stay; the result names where it began."""
    minimal = SMALL.model_copy(update={"backbone": "tf_mobilenetv3_small_minimal_100"})
    before = new_network(minimal, BandScaling.reference(), 7)
    path = tmp_path / "elsewhere.safetensors"
    save_network(before, path, {"trained_on": {"dataset": "elsewhere"}})
    chips = [f"chip{number:02d}" for number in range(12)]
    folds = pd.DataFrame({"chip_id": chips, "fold": [0] * 4 + [1] * 8})
    options = small_options(epochs=1, learning_rate=1e-12, weight_decay=0.0, crop=None)
    options = options.model_copy(update={"start_from_weights": str(path)})
    plan = plan_fit(BandScaling.reference().to_dict(), minimal, options)
    weights, history = train_stage(plan, store, folds, tmp_path / "points", tmp_path / "events")
    assert len(history) == 1
    assert weights.description["started_from"]["trained_on"] == {"dataset": "elsewhere"}
    head = "segmentation_head.weight"
    torch.testing.assert_close(weights.state[head], before.state_dict()[head])


def test_chips_that_the_weights_know_are_not_held_out(tmp_path, store, new_small_network):
    path = tmp_path / "known.safetensors"
    known = {"data_fingerprint": store.fingerprint}
    save_network(new_small_network(), path, {"trained_on": known})
    with pytest.raises(BadInputError, match="trained on these chips, so the held-out ones would"):
        planned(path).check_unseen(store)
    planned(path, folds=()).check_unseen(store)
