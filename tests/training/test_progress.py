import logging
import math
from typing import Any, cast

import pytest
import torch
from torch import nn

from biomassters.training.feed import Feed
from biomassters.training.options import TrainingOptions
from biomassters.training.progress import TrainingProgress, epoch_line
from biomassters.training.state import TrainingState

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
    state.tally.seconds = seconds
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
        state.tally.seconds, state.tally.wait_s = 2.0, 0.5
        progress.learnt()
        line = progress._bar.line(None)
    assert line.startswith("training: ")
    assert line.endswith("; epoch 1 of 4, loss 20.0, waiting 25%, 1 steps skipped")


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
