"""``conf/biomassters`` against what is published of the first place's schedule, turns and loss."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.ndimage import affine_transform

from biomassters.inference.options import InferenceOptions
from biomassters.loading.samples import plain_sample
from biomassters.training.augmentation import augment
from biomassters.training.losses import LOSSES
from biomassters.training.optimizer import learning_rate_at
from biomassters.training.options import TrainingOptions

CONF = Path(__file__).parents[2] / "conf" / "biomassters"
# epochs, rate, chips, start: each stage's cosine ends at max(rate / 10, 5e-5).
SCHEDULE = (
    (800, 1e-3, "training_folds", "new"),
    (100, 1e-4, "training_folds", "last"),
    (100, 1e-4, "all", "last"),
    (100, 1e-4, "all", "last"),
)


@pytest.fixture(scope="module")
def recipe() -> TrainingOptions:
    text = (CONF / "parameters_training.yml").read_text()
    return TrainingOptions.model_validate(yaml.safe_load(text)["training"])


def test_the_learning_rates_of_all_1100_epochs_are_torchs(recipe) -> None:
    rates, expected = [], []
    for stage in recipe.active_stages():
        options = recipe.of_stage(stage)
        rates += [learning_rate_at(epoch, options) for epoch in range(options.epochs)]
    for epochs, rate, _, _ in SCHEDULE:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, T_max=epochs, eta_min=max(rate / 10, 5e-5)
        )
        for _ in range(epochs):
            expected.append(cosine.get_last_lr()[0])
            optimizer.step()
            cosine.step()
    assert len(rates) == 1100
    # torch's goes from step to step and adds up rounding.
    np.testing.assert_allclose(rates, expected, rtol=1e-9)
    assert [rates[epoch] for epoch in (0, 400, 800, 850)] == pytest.approx(
        [1e-3, (1e-3 + 1e-4) / 2, 1e-4, (1e-4 + 5e-5) / 2]
    )


def test_chips_start_optimizer_and_batch_are_the_originals(recipe) -> None:
    stages = recipe.active_stages()
    found = [(recipe.of_stage(s).epochs, s.learning_rate, s.chips, s.start) for s in stages]
    assert tuple(found) == SCHEDULE
    assert [recipe.of_stage(stage).folds for stage in stages] == [(0,), (0,), (), ()]
    wanted = {
        "batch_size": 16, "world_size": 2, "weight_decay": 1e-2, "gradient_clip_norm": 5.0,
        "drop_last": True, "crop": None, "ema_decay": None, "loss": "masked_rmse",
        "loss_limit_mg_per_ha": 400.0, "start_from_labels": False, "precision": "float16",
        "validate_every_epochs": 1, "validation_score": "reference",
        "validation_precision": "float32", "sync_batch_norm": False,
        "validation_views": ("identity", "left_right", "up_down", "both"),
    }  # fmt: skip
    assert {name: getattr(recipe, name) for name in wanted} == wanted
    turns = recipe.augmentation
    assert (turns.flip, turns.quarter_turns, turns.rotation_probability) == (True, True, 0.7)
    assert (turns.rotation_range_deg, turns.rotation_centre_jitter) == ((-45.0, 45.0), 0.1)
    assert (turns.month_dropout_probability, turns.month_drop_rate) == (0.5, 0.3)
    assert turns.border == "reflect"


def test_it_predicts_in_float32_the_image_and_its_half_turn() -> None:
    text = (CONF / "parameters_inference.yml").read_text()
    options = InferenceOptions.model_validate(yaml.safe_load(text)["inference"])
    assert (options.precision, options.views) == ("float32", ("identity", "both"))


def checkerboard(side: int = 24, square: int = 3) -> np.ndarray:
    rows, columns = np.indices((side, side)) // square
    # Squares of different grey, so that no turn looks like another.
    return np.float32(50 + 100 * ((rows + columns) % 2) + 3 * rows + 7 * columns)


@pytest.mark.parametrize("degrees", [-45.0, -17.0, 8.0, 45.0])
@pytest.mark.parametrize("centre", [(12, 12), (10, 14), (14, 11)])
@pytest.mark.parametrize(("flip", "turns"), [(False, 0), (True, 1), (False, 3)])
def test_a_turned_checkerboard_goes_on_without_repeating_its_edge(
    degrees, centre, flip, turns
) -> None:
    """scipy's ``mirror`` is OpenCV's REFLECT_101: d c b | a b c d | c b a."""
    board = checkerboard()
    before = np.rot90(board[:, ::-1] if flip else board, turns)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    back = np.array([[cos, sin], [-sin, cos]])  # (row, column) of a turned pixel → whence it comes
    offset = np.array(centre) - back @ np.array(centre)
    expected = affine_transform(before.astype(np.float64), back, offset, order=1, mode="mirror")

    side = len(board)
    sample = dataclasses.replace(
        plain_sample(0, (0,)), flip=flip, quarter_turns=turns, rotation_deg=degrees,
        centre_yx=tuple((at + 0.5) / side for at in centre),
    )  # fmt: skip
    x_MCHW = torch.from_numpy(board).expand(1, 15, -1, -1).contiguous()
    agb_BHW = torch.from_numpy(board)[None]
    x_out, agb_out = augment(
        x_MCHW.__getitem__, agb_BHW, [sample], loss_limit=1e9, border="reflect"
    )
    np.testing.assert_allclose(x_out[0, 0].numpy(), expected, atol=2e-3)
    np.testing.assert_allclose(agb_out[0].numpy(), expected, atol=2e-3)
    if abs(degrees) > 10:  # smaller ones reach no further than half a pixel
        symmetric, _ = augment(x_MCHW.__getitem__, agb_BHW, [sample], loss_limit=1e9)
        assert np.abs(symmetric[0, 0].numpy() - expected).max() > 1


def test_the_loss_by_hand(recipe) -> None:
    """Per chip the RMSE over pixels with target < 400, the mean over chips."""
    target = torch.tensor([[[0.0, 100.0], [399.0, 400.0]], [[10.0, 5000.0], [600.0, 400.0]]])
    predicted = torch.tensor([[[3.0, 104.0], [399.0, 0.0]], [[-2.0, 0.0], [0.0, 0.0]]])
    loss_B = LOSSES[recipe.loss](predicted, target, recipe.loss_limit_mg_per_ha)
    assert loss_B.tolist() == pytest.approx([((9 + 16 + 0) / 3) ** 0.5, 12.0])
    assert loss_B.mean().item() == pytest.approx((2.88675 + 12) / 2, abs=1e-5)


def test_where_the_original_is_not_finite_this_is() -> None:
    """A chip without a pixel that counts, and a perfect one: both have loss and gradient 0."""
    target = torch.tensor([[[400.0, 900.0]], [[7.0, 8.0]]])
    predicted = torch.tensor([[[1.0, 2.0]], [[7.0, 8.0]]], requires_grad=True)
    loss_B = LOSSES["masked_rmse"](predicted, target, 400.0)
    loss_B.mean().backward()
    assert loss_B.tolist() == [0.0, 0.0]
    assert not predicted.grad.any()
