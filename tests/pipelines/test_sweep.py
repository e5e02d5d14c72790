"""Sweeps: small real trainings, and Optuna's study with a training that is a formula."""

import json
import logging
import re
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.network.options import NetworkOptions
from biomassters.pipelines.sweep import nodes
from biomassters.pipelines.sweep.options import SweepOptions, sweep_faults, with_values
from biomassters.training.options import TrainingOptions

NETWORK = NetworkOptions(
    backbone="tf_mobilenetv3_small_minimal_100", decoder_channels=(16, 16, 8, 8, 8)
)
TRAINING = TrainingOptions(
    epochs=2, batch_size=4, device="cpu", ema_decay=None, validate_every_epochs=1
)
RATE = {"name": "training.learning_rate", "low": 0.001, "high": 0.01, "log": True}


def sweep(*parameters, **options):
    return SweepOptions.model_validate({"parameters": parameters or (RATE,), **options})


@pytest.fixture
def study(optional):
    optional("optuna")
    from biomassters.pipelines.sweep import study

    return study


# ---- Options


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ({"low": 0.1, "high": 0.1}, r"the range of p, 0\.1 to 0\.1, is empty"),
        ({"low": 2, "high": 1}, "is empty; low must be less than high"),
        ({"low": 0, "high": 1, "log": True}, "tried by powers, but begins at 0"),
        ({"low": 1}, "p has no range; give low and high, or choices"),
        ({}, "p has no range"),
        ({"choices": ["a"]}, "p has a single choice"),
        ({"choices": [1, 2], "low": 1}, "p has choices and a range"),
        ({"low": 1, "hihg": 2}, "there is no such option"),
    ],
)
def test_a_range_that_holds_nothing_is_refused(parameter, sentence):
    with pytest.raises(BadInputError, match=sentence):
        sweep({"name": "p", **parameter})


def test_a_sweep_of_nothing_is_refused():
    with pytest.raises(BadInputError, match="parameters"):
        SweepOptions.model_validate({"parameters": []})


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("training.learning_rat", (0.1, 0.2), "did you mean 'training.learning_rate'"),
        ("simulation.seed", (1, 2), "no parameter of training or network"),
        ("training", (1, 2), "no parameter of training or network"),
        ("training.augmentation", (1, 2), "no parameter of training or network"),
        ("training.epochs", (0, 3), "training.epochs can't be 0: epochs: Input should be"),
        ("training.ema_decay", (0.5, 1.5), "training.ema_decay can't be 1.5"),
    ],
)
def test_what_no_trial_could_take_is_said_before_the_first(name, values, sentence):
    low, high = values
    (fault,) = sweep_faults(sweep({"name": name, "low": low, "high": high}), NETWORK, TRAINING)
    assert sentence in fault


def test_a_sweep_needs_held_out_chips_and_one_process_a_trial():
    no_fold = TrainingOptions(folds=())
    assert "training.folds is empty" in next(sweep_faults(sweep(), NETWORK, no_fold))
    ranks = TrainingOptions(world_size=2)
    assert "training.world_size is 2" in next(sweep_faults(sweep(), NETWORK, ranks))
    (twice,) = set(sweep_faults(sweep(RATE, RATE), NETWORK, TRAINING))
    assert "twice" in twice
    assert not list(sweep_faults(sweep(), NETWORK, TRAINING))


def test_values_reach_the_options_also_lists_and_inner_ones():
    network, training = with_values(NETWORK, TRAINING, {
        "network.decoder_channels": "8/8/8/4/4",
        "training.augmentation.flip": False,
        "training.learning_rate": 0.25,
    })  # fmt: skip
    assert network.decoder_channels == (8, 8, 8, 4, 4)
    assert not training.augmentation.flip
    assert training.learning_rate == 0.25
    assert training.batch_size == TRAINING.batch_size


# ---- The study; the training is a formula


def of_rate(network, training, place, on_validation):
    """Best at 0.004: the RMSE is twice 100 times the distance, then half of that."""
    off = 100 * abs(training.learning_rate - 0.004)
    on_validation(2 * off)
    on_validation(off)
    return off


def run(study, folder, train=of_rate, data="the chips", **options):
    return study.run_study(train, folder, data, NETWORK, TRAINING, sweep(**options))


def test_the_best_of_the_trials_is_found_and_can_be_trained(study, tmp_path):
    found = run(study, tmp_path, trials=12, pruning=False)
    table, best = study.trial_table(found), study.best_trial(found)
    assert len(table) == 12
    assert set(table["state"]) == {"complete"}
    assert table["rmse_mg_per_ha"].is_monotonic_increasing
    rates = table["training.learning_rate"]
    assert rates.between(0.001, 0.01).all()
    assert table["rmse_mg_per_ha"].tolist() == pytest.approx((100 * (rates - 0.004).abs()).tolist())
    assert best["parameters"] == {"training.learning_rate": rates[0]}
    assert best["command"] == f"kedro run --params run=best,training.learning_rate={rates[0]}"
    assert not list(tmp_path.glob("trial_*"))


def test_the_same_seed_tries_the_same(study, tmp_path):
    def tried(name, seed):
        (tmp_path / name).mkdir()
        found = run(study, tmp_path / name, trials=4, seed=seed)
        return [trial.params for trial in found.trials]

    assert tried("one", 1) == tried("again", 1)
    assert tried("two", 2) != tried("again_2", 1)


def test_ranges_are_whole_fractions_powers_or_choices(study):
    given = (
        {"name": "training.batch_size", "low": 2, "high": 8},
        {"name": "training.weight_decay", "low": 0, "high": 1},
        RATE,
        {"name": "training.loss", "choices": ["masked_rmse", "masked_mae"]},
        {"name": "training.ema_decay", "choices": [None, 0.9]},
    )
    found = study.distributions(sweep(*given), NETWORK, TRAINING)
    kinds = [type(one).__name__.removesuffix("Distribution") for one in found.values()]
    assert kinds == ["Int", "Float", "Float", "Categorical", "Categorical"]
    assert found["training.learning_rate"].log
    assert found["training.ema_decay"].choices == (None, 0.9)


def test_a_finished_study_is_found_finished_and_a_larger_budget_goes_on(study, tmp_path):
    first, again, more = (
        [trial.params for trial in run(study, tmp_path, trials=count).trials] for count in (3, 3, 5)
    )
    assert len(first) == 3
    assert again == first
    assert len(more) == 5
    assert more[:3] == first


def test_trials_worse_than_the_median_are_stopped(study, tmp_path):
    found = run(study, tmp_path, trials=14)
    states = [trial.state.name for trial in found.trials]
    assert "PRUNED" in states
    assert states[:5] == ["COMPLETE"] * 5
    pruned = found.trials[states.index("PRUNED")]
    before = [trial.intermediate_values[1] for trial in found.trials[: pruned.number]
              if trial.state.name == "COMPLETE"]  # fmt: skip
    assert pruned.intermediate_values[1] > np.median(before)


def test_another_study_is_refused_and_kept(study, tmp_path):
    run(study, tmp_path, trials=2)
    before = (tmp_path / "journal.log").read_bytes()
    with pytest.raises(BadInputError, match="holds a sweep of other chips, parameters or ranges"):
        run(study, tmp_path, trials=2, data="other chips")
    with pytest.raises(BadInputError, match="run=NAME"):
        study.run_study(of_rate, tmp_path, "the chips", NETWORK, TRAINING,
                        sweep({**RATE, "high": 0.02}, trials=2))  # fmt: skip
    assert (tmp_path / "journal.log").read_bytes() == before


def test_a_trial_that_fails_is_noted_and_the_next_begins(study, tmp_path, caplog):
    calls = []

    def train(*given):
        calls.append(1)
        if len(calls) == 2:
            raise BadInputError("The network predicts NaN.")
        return of_rate(*given)

    with caplog.at_level(logging.WARNING):
        found = run(study, tmp_path, train, trials=3)
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "Trial 1 failed: The network predicts NaN." in caplog.text

    def fail(*given):
        raise BadInputError("The network predicts NaN.")

    (tmp_path / "other").mkdir()
    with pytest.raises(BadInputError, match="came to its end; the last one failed: The network"):
        run(study, tmp_path / "other", fail, trials=2)


def test_after_its_minutes_no_trial_begins(study, tmp_path):
    def train(*given):
        time.sleep(0.3)
        return of_rate(*given)

    found = run(study, tmp_path, train, trials=50, minutes=0.005)
    assert len(found.trials) == 1


_PROCESS = """
import sys, time
from pathlib import Path
from tests.pipelines.test_sweep import of_rate, run
from biomassters.pipelines.sweep import study
folder, trials, sleep = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])

def train(network, training, place, on_validation):
    if sleep > 1:
        on_validation(99)
    (place / "at_work").write_text(str(training.learning_rate))
    time.sleep(sleep)
    return of_rate(network, training, place, on_validation)

run(study, folder, train, trials=trials, pruning=False)
"""


@pytest.fixture
def begin(fork):
    """Another process that works on a study: ``begin(folder, trials, sleep)``."""
    return partial(fork, _PROCESS, folder=Path(__file__).parents[2])


@pytest.mark.slow
def test_a_killed_trial_is_tried_again_where_it_was(study, tmp_path, begin):
    victim = begin(tmp_path, 3, 600)
    mark = tmp_path / "trial_0000/at_work"
    deadline = time.monotonic() + 120
    while not (mark.is_file() and mark.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    victim.kill()
    victim.wait()
    rate, seen = float(mark.read_text()), []

    def train(network, training, place, on_validation):
        seen.append((training.learning_rate, place.name, (place / "at_work").exists()))
        return of_rate(network, training, place, on_validation)

    found = run(study, tmp_path, train, trials=3, pruning=False)
    assert seen[0] == (rate, "trial_0000", True)
    assert [trial.state.name for trial in found.trials] == ["COMPLETE"] * 3
    # The validations from before the kill are on record, and those after it go on counting.
    assert list(found.trials[0].intermediate_values) == [1, 2, 3]
    assert found.trials[0].intermediate_values[1] == 99
    assert len(study.trial_table(found)) == 3
    assert not list(tmp_path.glob("trial_*"))


@pytest.mark.slow
def test_processes_share_a_study(study, tmp_path, begin):
    both = [begin(tmp_path, 8, 0.2) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    found = run(study, tmp_path, trials=8, pruning=False)
    assert len(found.trials) == 8
    assert {trial.state.name for trial in found.trials} == {"COMPLETE"}
    assert len({trial.params["training.learning_rate"] for trial in found.trials}) == 8


# ---- Trained for real


@pytest.mark.slow
def test_trainings_are_tried_and_shown(study, store, tmp_path, one_thread):
    chips = store.split("train").chip_ids
    folds = pd.DataFrame({"chip_id": chips, "fold": np.arange(len(chips)) % 3})
    scaling = BandScaling.reference().to_dict()
    batch = {"name": "training.batch_size", "low": 2, "high": 4}
    given = (store, folds, scaling, tmp_path, NETWORK, TRAINING, sweep(RATE, batch, trials=3))
    found = nodes.run_trials(*given)
    table, best, page = nodes.report_trials(found)
    assert len(table) == 3
    assert table["rmse_mg_per_ha"].between(1, 500).all()
    assert set(table["training.batch_size"]) <= {2, 3, 4}
    # Both validations were told, the last is what counts.
    for trial in found.trials:
        assert len(trial.intermediate_values) == 2
        assert trial.intermediate_values[2] == trial.value
    assert json.loads(json.dumps(best))["rmse_mg_per_ha"] == table["rmse_mg_per_ha"][0]
    assert "Sweep of 3 trials" in page
    assert "Hyperparameter Importances" in page
    assert best["command"] in page
    assert not re.search(r"<(script|link|img)[^>]* (src|href)=.?http", page)
