import contextlib
import logging
import math
import random
import signal
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from biomassters.errors import BadInputError
from biomassters.training.checkpoint import FORMAT, CheckpointFolder, content_crc
from biomassters.training.options import TrainingOptions
from biomassters.training.train import train
from biomassters.training.trainer import (
    STOP_SIGNALS,
    StopRequest,
    TrainingInterrupted,
    explained_memory_errors,
)

TRAINING, VALIDATION = list(range(9)), [9, 10, 11]
EVERY_STEP = 1e-9  # minutes between checkpoints


@pytest.fixture
def run(store, new_small_network, tmp_path):
    """Run training in a folder of this test's own; ``prepare`` may tamper with the network."""

    def begin(options, folder="checkpoints", prepare=lambda network: None, **changes):
        network = new_small_network()
        prepare(network)
        given = {
            "split": store.split("train"),
            "training": TRAINING,
            "validation": VALIDATION,
            "fingerprint": store.fingerprint,
            **changes,
        }
        split, training, validation = (given.pop(k) for k in ("split", "training", "validation"))
        return train(network, split, training, validation, options, tmp_path / folder, **given)

    return begin


def at_call(number: int, act):
    """Do something when the encoder is called for the ``number``-th time, from 1."""

    def prepare(network) -> None:
        calls = iter(range(1, 1_000_000))

        def hook(module, inputs) -> None:
            if module.training and not torch.is_grad_enabled():
                return  # no step yet: it is tried whether the network draws random numbers
            if next(calls) == number:
                act()

        network.encoder.register_forward_pre_hook(hook)

    return prepare


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def assert_same(left, right) -> None:
    """Weights and history bit for bit."""
    for ours, theirs in ((left.last_state, right.last_state), (left.best_state, right.best_state)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert left.history.equals(right.history)
    assert (left.best_epoch, left.best_score) == (right.best_epoch, right.best_score)


def test_a_run_learns_and_says_how(run, small_options, caplog) -> None:
    with caplog.at_level(logging.INFO):
        # After so few steps the running statistics are none that one could learn with.
        result = run(
            small_options(epochs=6, learning_rate=1e-2, batch_size=3, freeze_batch_norm_share=0.0)
        )
    history = result.history
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert history["train_loss"].iloc[-1] < 0.8 * history["train_loss"].iloc[0]
    assert history["skipped_steps"].tolist() == [0] * 6
    rates = [1e-2 * 0.5 * (1 + math.cos(math.pi * epoch / 6)) for epoch in range(6)]
    assert history["learning_rate"].tolist() == pytest.approx(rates)
    scores = history["validation_rmse_per_chip_mean"]
    assert result.best_score == scores.min()
    assert result.best_epoch == 1 + scores.argmin()
    # The outlier of each chip counts in the score but not in the masked one.
    assert (history["validation_rmse_masked_per_chip_mean"] < scores).all()
    assert result.timing["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert (result.timing["chips_per_s"] > 0).all()
    assert result.timing["wait_share"].between(0, 1).all()
    # Saved after every second epoch, which the row of the next one tells.
    assert (result.timing["saving_seconds"] > 0).tolist() == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]
    assert "Epoch 6 of 6: loss" in caplog.text


def test_the_same_run_gives_the_same_bits_whatever_threads_read(run, small_options) -> None:
    first = run(small_options(epochs=1), folder="first")
    second = run(small_options(epochs=1, loader_threads=4, loader_prefetch=1), folder="second")
    other_seed = run(small_options(epochs=1, seed=5), folder="third")
    assert_same(first, second)
    assert not first.history.equals(other_seed.history)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema_decay": 0.9, "gradient_accumulation": 2, "validate_every_epochs": 2, "crop": 64},
        {
            "drop_last": False,
            "start_from_labels": False,
            "validation_views": ("identity", "both"),
        },
    ],
)
def test_interrupted_anywhere_a_run_ends_with_the_same_bits(run, small_options, changes) -> None:
    options = small_options(epochs=3, **changes)
    whole = run(options, folder="whole")
    moments = random.Random(str(changes))
    results, interruptions = [], 0
    while not results:
        try:
            results.append(run(options, prepare=at_call(moments.randint(1, 6), interrupt)))
        except TrainingInterrupted:
            interruptions += 1
    assert interruptions >= 2
    assert_same(whole, results[0])


def test_interrupted_while_validating_it_validates_again(run, small_options) -> None:
    options = small_options(epochs=1, validation_batch_size=1)
    whole = run(options, folder="whole")
    with pytest.raises(
        TrainingInterrupted, match=r"0 of 1 epochs and 2 of 2 steps.*Run the same command again"
    ):
        run(options, prepare=at_call(3, interrupt))
    assert_same(whole, run(options))


def test_a_truncated_checkpoint_costs_steps_but_no_bits(run, small_options, tmp_path) -> None:
    options = small_options(checkpoint_every_minutes=EVERY_STEP)
    whole = run(options, folder="whole")
    with pytest.raises(TrainingInterrupted):
        run(options, prepare=at_call(5, interrupt))
    newest = CheckpointFolder(tmp_path / "checkpoints", kept=2).files()[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert_same(whole, run(options))


def test_chips_drawn_in_another_order_are_refused(run, small_options, tmp_path) -> None:
    """As by another version: the second half would not be the same experiment."""
    options = small_options(checkpoint_every_minutes=EVERY_STEP)
    with pytest.raises(TrainingInterrupted):
        run(options, prepare=at_call(1, interrupt))
    newest = CheckpointFolder(tmp_path / "checkpoints", kept=2).files()[0]
    content = torch.load(newest, weights_only=True)
    del content["format"], content["crc32c"]
    content["next_chips"] = content["next_chips"][::-1]
    torch.save({**content, "format": FORMAT, "crc32c": content_crc(content)}, newest)
    with pytest.raises(BadInputError, match=r"drew chips in another order: continue with that"):
        run(options, prepare=at_call(1, pytest.fail))


def test_weights_that_change_while_they_are_restored_are_refused(run, small_options) -> None:
    options = small_options(checkpoint_every_minutes=EVERY_STEP)
    with pytest.raises(TrainingInterrupted):
        run(options, prepare=at_call(1, interrupt))

    def add_one(network, _) -> None:
        network.segmentation_head.bias.data.add_(1.0)

    def spoil(network) -> None:
        network.register_load_state_dict_post_hook(add_one)

    with pytest.raises(BadInputError, match=r"changed on their way: check the memory"):
        run(options, prepare=spoil)


def test_a_finished_run_returns_at_once(run, small_options, caplog) -> None:
    first = run(small_options(epochs=1))
    with caplog.at_level(logging.INFO):
        again = run(small_options(epochs=1), prepare=at_call(1, pytest.fail))
    assert_same(first, again)
    assert again.timing.equals(first.timing)
    assert "Training is complete" in caplog.text
    assert "training.restart=true" in caplog.text


def test_restart_trains_afresh(run, small_options) -> None:
    first = run(small_options(epochs=1))
    with pytest.raises(BadInputError, match=r"training\.epochs was 1, is 2"):
        run(small_options(epochs=2))
    second = run(small_options(epochs=2, restart=True))
    assert len(second.history) == 2
    assert second.history["train_loss"][0] == first.history["train_loss"][0]


def test_a_store_that_changed_is_refused_and_the_checkpoints_stay(
    run, small_options, tmp_path
) -> None:
    run(small_options(epochs=1))
    before = sorted(file.read_bytes() for file in (tmp_path / "checkpoints").iterdir())
    with pytest.raises(BadInputError, match="another chip store"):
        run(small_options(epochs=1), fingerprint="another")
    assert sorted(file.read_bytes() for file in (tmp_path / "checkpoints").iterdir()) == before


def test_every_validation_chip_counts_once(run, small_options, store) -> None:
    """Seven chips in batches of four: as the mean of each chip alone."""
    options = small_options(epochs=1, validation_batch_size=4, batch_size=5)
    learnt, held_out = range(5), list(range(5, 12))
    together = run(options, training=learnt, validation=held_out)
    alone = []
    for chip in held_out:
        result = run(options, folder=f"chip{chip}", training=learnt, validation=[chip])
        alone.append(result.best_score)
    assert together.best_score == pytest.approx(np.mean(alone), rel=1e-6)


def test_without_validation_the_last_weights_are_the_best(run, small_options) -> None:
    result = run(small_options(epochs=1, folds=()), validation=[])
    assert result.best_epoch is None
    assert result.best_score is None
    assert result.history["validation_rmse_per_chip_mean"].isna().all()
    assert all(torch.equal(result.best_state[k], result.last_state[k]) for k in result.last_state)


def test_initial_weights_are_started_from(run, small_options, new_small_network) -> None:
    given = new_small_network(seed=99).state_dict()
    options = small_options(epochs=1, learning_rate=1e-12)
    result = run(options, initial_state=given)
    for name, value in given.items():
        if value.is_floating_point() and "running" not in name:
            torch.testing.assert_close(result.last_state[name], value)
    with pytest.raises(BadInputError, match="other initial weights"):
        run(options)
    del given["segmentation_head.bias"]
    with pytest.raises(BadInputError, match="another network"):
        run(options, folder="other", initial_state=given)


def test_averaged_weights_are_returned(run, small_options) -> None:
    plain = run(small_options(epochs=1), folder="plain")
    averaged = run(small_options(epochs=1, ema_decay=0.5), folder="averaged")
    assert plain.history["train_loss"].equals(averaged.history["train_loss"])
    name = "segmentation_head.weight"
    assert not torch.equal(plain.last_state[name], averaged.last_state[name])


def test_one_step_that_is_not_finite_is_skipped_and_counted(run, small_options) -> None:
    def prepare(network) -> None:
        calls = iter(range(1, 1000))
        network.encoder.register_forward_pre_hook(
            lambda module, inputs: (inputs[0] * (math.nan if next(calls) == 2 else 1.0),)
        )

    result = run(small_options(epochs=1), prepare=prepare)
    assert result.history["skipped_steps"].tolist() == [1]
    assert math.isfinite(result.history["train_loss"][0])
    assert all(value.isfinite().all() for value in result.last_state.values())


def test_too_many_in_a_row_stop_with_the_chips(run, small_options) -> None:
    def prepare(network) -> None:
        torch.nn.init.constant_(network.segmentation_head.weight, math.inf)

    with pytest.raises(BadInputError, match=r"3 steps in a row.*chip\d\d, chip\d\d.*learning_rate"):
        run(small_options(batch_size=2, bad_steps_allowed=2), prepare=prepare)


def test_no_room_on_the_disk_is_noticed_before_the_first_step(
    run, small_options, monkeypatch, tmp_path
) -> None:
    run(small_options(epochs=1))
    full = types.SimpleNamespace(total=10, used=10, free=0)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)
    with pytest.raises(BadInputError, match="Keeping checkpoints needs about"):
        run(small_options(restart=True), prepare=at_call(1, pytest.fail))
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_a_second_run_in_the_same_folder_is_refused(run, small_options) -> None:
    refusals = []

    def run_again() -> None:
        with pytest.raises(BadInputError, match="Another run is training in") as refusal:
            run(small_options(epochs=1))
        refusals.append(refusal)

    run(small_options(epochs=1), prepare=at_call(2, run_again))
    assert len(refusals) == 1


def test_outside_the_main_thread_it_trains_all_the_same(run, small_options) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(run(small_options(epochs=1))))
    thread.start()
    thread.join()
    assert len(results[0].history) == 1


def test_the_callers_random_state_and_handlers_are_left_alone(run, small_options) -> None:
    handler = signal.getsignal(signal.SIGINT)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    run(small_options(epochs=1))
    assert torch.equal(torch.rand(1), expected)
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_loop_writes_nothing_but_its_checkpoints(run, small_options, tmp_path: Path) -> None:
    run(small_options(epochs=1))
    assert sorted(file.name for file in tmp_path.rglob("*.*")) == ["checkpoint_00001_000000.pt"]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_noted_and_nothing_else_happens(number: int) -> None:
    before = [signal.getsignal(each) for each in STOP_SIGNALS]
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == before


def test_handlers_are_restored_without_a_signal_and_after_an_error() -> None:
    before = [signal.getsignal(each) for each in STOP_SIGNALS]
    with contextlib.suppress(ZeroDivisionError), StopRequest():
        assert signal.getsignal(signal.SIGINT) != before[0]
        raise ZeroDivisionError
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == before


def test_the_second_signal_acts_as_without_us() -> None:
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    found = []

    def work() -> None:
        with StopRequest() as stop:
            found.append((stop.requested, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]


def test_an_interruption_is_not_an_ordinary_failure() -> None:
    assert issubclass(TrainingInterrupted, KeyboardInterrupt)
    assert not issubclass(TrainingInterrupted, Exception)


def test_a_patient_one_is_obeyed_once_and_to_the_end() -> None:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        with StopRequest(patient=True) as stop:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            assert stop.requested
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_exhausted_memory_says_what_to_lower() -> None:
    with (
        pytest.raises(BadInputError, match=r"8 whole chips at a time.*gradient_accumulation"),
        explained_memory_errors(TrainingOptions()),
    ):
        torch.empty(2**58)


def test_other_errors_are_left_alone() -> None:
    with (
        pytest.raises(RuntimeError, match="must match"),
        explained_memory_errors(TrainingOptions()),
    ):
        torch.zeros(2) + torch.zeros(3)
