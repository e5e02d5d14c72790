import math

import torch

from biomassters.training.progress import EpochBar, epoch_line
from biomassters.training.state import EpochTally

ROW = {
    "epoch": 3,
    "train_loss": 31.234,
    "skipped_steps": 0,
    "validation_rmse_per_chip_mean": 40.126,
}
TIMING = {"chips_per_s": 12.34, "wait_share": 0.031}


def test_a_sentence_on_an_epoch() -> None:
    assert epoch_line(ROW, TIMING, 12) == (
        "Epoch 3 of 12: loss 31.23, held-out RMSE 40.13 Mg/ha, 12.3 chips/s, "
        "3% of the time waiting for data."
    )


def test_what_was_not_done_is_not_mentioned_what_went_wrong_is() -> None:
    row = {**ROW, "validation_rmse_per_chip_mean": math.nan, "skipped_steps": 2}
    line = epoch_line(row, TIMING, 12)
    assert "held-out" not in line
    assert "2 steps skipped" in line


def test_the_bar_shows_chips_loss_and_waiting(capsys) -> None:
    tally = EpochTally(loss=80.0, chips=4, seconds=2.0, wait_s=0.5, skipped_steps=1)
    with EpochBar("Epoch 1/2", 8, 4, torch.device("cpu"), shown=True) as bar:
        bar.update(4, tally)
        bar._bar.refresh()
    shown = capsys.readouterr().err
    for part in ("Epoch 1/2", "8/8", "loss=20.0", "waiting=25%", "skipped=1"):
        assert part in shown


def test_a_hidden_bar_shows_nothing(capsys) -> None:
    with EpochBar("Epoch 1/2", 8, 0, torch.device("cpu"), shown=False) as bar:
        bar.update(4, EpochTally())
    assert capsys.readouterr().err == ""
