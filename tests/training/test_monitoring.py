import logging
import math
import signal
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from biomassters.training.micro_batches import Feed
from biomassters.training.monitoring import TrainingProgress, epoch_line
from biomassters.training.options import TrainingOptions
from biomassters.training.state import TrainingState
from biomassters.training.train import train
from biomassters.training.trainer import TrainingInterrupted

ROW = {
    "epoch": 3,
    "train_loss": 31.234,
    "skipped_steps": 0,
    "validation_rmse_per_chip_mean": 40.126,
}
TIMING = {"chips_per_s": 12.34, "wait_share": 0.031}


def test_a_sentence_on_an_epoch() -> None:
    assert epoch_line(ROW, TIMING, 12) == (
        "Epoch 3 of 12: loss 31.23, held-out RMSE 40.13 Mg/ha, 12.3 chips/s."
    )


def test_what_was_not_done_is_not_mentioned_what_went_wrong_is() -> None:
    row = {**ROW, "validation_rmse_per_chip_mean": math.nan, "skipped_steps": 2}
    line = epoch_line(row, {**TIMING, "wait_share": 0.31}, 12)
    assert "held-out" not in line
    assert "2 steps skipped" in line
    assert "31% of the time waiting for data" in line


class Chips:
    """Ten chips to learn from and four held out, of twice the crop's side."""

    chips, validation_chips = 10, 4

    class split:  # noqa: N801
        height = width = 64


def begun(epochs: int = 4, **options: Any) -> tuple[TrainingState, TrainingOptions]:
    chosen = TrainingOptions(epochs=epochs, batch_size=5, crop=32, **options)
    return TrainingState.begin(nn.Linear(1, 1), chosen), chosen


def progress_of(state: TrainingState, options: TrainingOptions, shown: bool) -> TrainingProgress:
    return TrainingProgress(cast("Feed", Chips()), options, state, torch.device("cpu"), shown=shown)


def finish_epoch(state: TrainingState, seconds: float, validation_s: float) -> None:
    for _ in range(2):
        state.note_step(20.0, 5, skipped=False)
    state.metrics.seconds = seconds
    state.finish_epoch(1e-3, {"rmse_per_chip_mean": 40.0}, validation_s)


def test_work_is_that_of_the_whole_run() -> None:
    """A held-out chip is four times as large, and costs a third as much a pixel: 4 / 3."""
    state, options = begun(validate_every_epochs=1)
    progress = progress_of(state, options, shown=False)
    assert progress._work(0) == pytest.approx((0, 4 * 10 + 4 * 4 * 4 / 3))
    state.note_step(20.0, 5, skipped=False)
    assert progress._work(0)[0] == 5
    assert progress._work(2)[0] == pytest.approx(5 + 2 * 4 / 3)


def test_the_last_epoch_is_validated_as_well() -> None:
    state, options = begun(epochs=5, validate_every_epochs=2)
    work, total = progress_of(state, options, shown=False)._work(0)
    assert (work, total) == pytest.approx((0, 5 * 10 + 3 * 4 * 4 / 3))


def test_validation_costs_what_it_took() -> None:
    """Ten chips in two seconds, four held-out ones in four: each is worth five."""
    state, options = begun(validate_every_epochs=1)
    progress = progress_of(state, options, shown=False)
    finish_epoch(state, seconds=2.0, validation_s=4.0)
    progress.finished_epoch()
    assert progress._work(0) == pytest.approx((10 + 4 * 5, 4 * (10 + 4 * 5)))


def test_the_note_says_epoch_loss_waiting_and_what_went_wrong() -> None:
    state, options = begun()
    with progress_of(state, options, shown=True) as progress:
        state.note_step(20.0, 5, skipped=False)
        state.note_step(math.nan, 5, skipped=True)
        state.metrics.seconds, state.metrics.wait_s = 2.0, 0.5
        progress.learnt()
        line = progress._bar.line(None)
    assert line.startswith("training: ")
    assert line.endswith("; epoch 1 of 4, loss 20.0, waiting 25%, 1 step skipped")


def test_the_note_says_the_newest_score() -> None:
    state, options = begun()
    with progress_of(state, options, shown=True) as progress:
        finish_epoch(state, 2.0, 1.0)
        state.note_step(20.0, 5, skipped=False)
        progress.learnt()
        assert progress._bar.line(None).endswith("; epoch 2 of 4, loss 20.0, held-out RMSE 40.0")


def test_the_last_epoch_is_always_told(caplog) -> None:
    caplog.set_level(logging.INFO)
    state, options = begun(epochs=2, validate_every_epochs=1)
    with progress_of(state, options, shown=False) as progress:
        for _ in range(2):
            finish_epoch(state, 2.0, 1.0)
            progress.finished_epoch()
    assert [record.getMessage()[:13] for record in caplog.records] == ["Epoch 2 of 2:"]


@pytest.fixture
def run(store, new_small_network, tmp_path):
    def begin(options, prepare=lambda network: None):
        network = new_small_network()
        prepare(network)
        train(
            network, store.split("train"), range(9), [9, 10], options, tmp_path / "checkpoints",
            fingerprint="x", event_dir=tmp_path / "events",
        )  # fmt: skip

    return begin


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(point.step, point.value) for point in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def stop_at(number: int):
    def prepare(network) -> None:
        calls = iter(range(1, 1000))

        def hook(module, inputs) -> None:
            if next(calls) == number:
                signal.raise_signal(signal.SIGINT)

        network.encoder.register_forward_pre_hook(hook)

    return prepare


def test_curves_of_an_interrupted_run_are_those_of_a_whole_one(
    run, small_options, tmp_path
) -> None:
    options = small_options(epochs=3, checkpoint_every_minutes=1e-9)
    with pytest.raises(TrainingInterrupted):
        run(options, prepare=stop_at(5))
    run(options)
    interrupted = curves(tmp_path / "events")
    assert [step for step, _ in interrupted["step/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in interrupted["epoch/held_out_rmse_mg_per_ha"]] == [2, 4, 6]
    assert "speed/gpu_memory_gib" not in interrupted  # there is none
    run(small_options(epochs=3, restart=True))
    whole = curves(tmp_path / "events")
    for name in ("step/loss", "epoch/loss", "epoch/learning_rate"):
        assert whole[name] == interrupted[name]
