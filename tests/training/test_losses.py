import itertools
import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biomassters.errors import BadInputError
from biomassters.training.losses import (
    LOSSES,
    masked_huber,
    masked_mae,
    masked_mse,
    masked_rmse,
    register,
)
from biomassters.training.options import TrainingOptions

ALL = pytest.mark.parametrize("loss", [masked_rmse, masked_mse, masked_mae, masked_huber])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # Chip 1: errors 3, -40, 0 over three pixels; the outlier is left out. Chip 2: 6 everywhere.
        (masked_rmse, [(1609 / 3) ** 0.5, 6.0]),
        (masked_mse, [1609 / 3, 36.0]),
        (masked_mae, [43 / 3, 6.0]),
        # Half the square up to 30, then 30 times what is beyond: 4.5 + (450 + 300) + 0.
        (masked_huber, [754.5 / 3, 18.0]),
    ],
)
def test_values_worked_by_hand(loss, expected) -> None:
    target = torch.tensor([[[10.0, 60.0], [30.0, 500.0]], [[0.0, 0.0], [0.0, 0.0]]])
    prediction = torch.tensor([[[13.0, 20.0], [30.0, -900.0]], [[6.0, 6.0], [6.0, 6.0]]])
    assert loss(prediction, target, 400.0).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # d sqrt((a² + b²) / 2) / da = a / (2 · rmse), with rmse = sqrt((9 + 1600) / 2)
        (masked_rmse, [3.0 / (2 * 804.5**0.5), 40.0 / (2 * 804.5**0.5)]),
        (masked_mse, [3.0, 40.0]),
        (masked_mae, [0.5, 0.5]),
        (masked_huber, [1.5, 15.0]),
    ],
)
def test_gradients_worked_by_hand(loss, expected) -> None:
    prediction = torch.tensor([[[3.0, 40.0]]], requires_grad=True)
    loss(prediction, torch.zeros(1, 1, 2), 400.0).mean().backward()
    assert prediction.grad is not None
    assert prediction.grad.flatten().tolist() == pytest.approx(expected)


def test_huber_is_torchs() -> None:
    prediction = torch.linspace(-100, 100, 49).view(1, 7, 7)
    theirs = torch.nn.functional.huber_loss(prediction, torch.zeros(1, 7, 7), delta=30.0)
    assert masked_huber(prediction, torch.zeros(1, 7, 7)).item() == pytest.approx(theirs.item())


@ALL
def test_the_limit_itself_is_left_out(loss) -> None:
    target, zeros = torch.tensor([[[400.0, 399.0]]]), torch.zeros(1, 1, 2)
    one = loss(zeros[..., 1:], target[..., 1:], 400.0)
    assert loss(zeros, target, 400.0).item() == pytest.approx(one.item())
    assert loss(zeros, target, 399.5).item() == pytest.approx(one.item())
    assert loss(zeros, target, 399.0).item() == 0.0


@ALL
@pytest.mark.parametrize(
    "target",
    [
        torch.full((2, 4, 4), 1000.0),  # nothing counts
        torch.full((2, 4, 4), float("nan")),  # nothing known
        torch.ones(2, 4, 4),  # predicted perfectly
    ],
)
def test_loss_and_gradient_are_zero_where_there_is_nothing_to_learn(loss, target) -> None:
    prediction = torch.ones(2, 4, 4, requires_grad=True)
    value = loss(prediction, target, 400.0)
    value.mean().backward()
    assert value.tolist() == [0.0, 0.0]
    assert prediction.grad is not None
    assert prediction.grad.tolist() == torch.zeros(2, 4, 4).tolist()


@ALL
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4),
    st.lists(st.floats(0, 1e4, width=32) | st.just(float("nan")), min_size=4, max_size=4),
)
def test_loss_and_gradient_are_always_finite(loss, predicted, target) -> None:
    prediction = torch.tensor(predicted).view(1, 2, 2).requires_grad_()
    value = loss(prediction, torch.tensor(target).view(1, 2, 2), 400.0).mean()
    value.backward()
    assert prediction.grad is not None
    assert torch.isfinite(value)
    assert torch.isfinite(prediction.grad).all()
    if loss is masked_rmse:
        assert prediction.grad.norm() <= 1.001


@ALL
def test_an_infinite_prediction_of_a_masked_pixel_does_no_harm(loss) -> None:
    prediction = torch.tensor([[[float("inf"), 5.0]]], requires_grad=True)
    value = loss(prediction, torch.tensor([[[1000.0, 2.0]]]), 400.0)
    value.mean().backward()
    alone = loss(torch.tensor([[[5.0]]]), torch.tensor([[[2.0]]]), 400.0)
    assert value.item() == pytest.approx(alone.item())
    assert prediction.grad is not None
    assert prediction.grad[0, 0, 0] == 0.0
    assert prediction.grad[0, 0, 1] > 0.0


@ALL
@pytest.mark.parametrize("cuts", [(0, 2, 4), (0, 1, 4), (0, 1, 2, 3, 4)])
def test_parts_that_weigh_by_their_chips_add_up_to_the_whole(loss, cuts) -> None:
    """Value and gradient, for parts of any size; targets above the limit make pixels uneven."""
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.rand(4, 8, 8, generator=generator) * 600 for _ in range(2))
    target[3] = 1000.0  # a chip of which no pixel counts
    whole, split = prediction.clone().requires_grad_(), prediction.clone().requires_grad_()
    value = loss(whole, target, 400.0).mean()
    value.backward()
    total = 0.0
    for first, last in itertools.pairwise(cuts):
        part = loss(split[first:last], target[first:last], 400.0).mean() * ((last - first) / 4)
        part.backward()
        total += part.item()
    assert total == pytest.approx(value.item())
    assert whole.grad is not None
    assert split.grad is not None
    torch.testing.assert_close(split.grad, whole.grad)


@ALL
def test_half_precision_predictions_are_compared_in_float32(loss) -> None:
    half, target = torch.full((1, 64, 64), 300.0, dtype=torch.bfloat16), torch.zeros(1, 64, 64)
    found = loss(half, target, 400.0)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(half.float(), target, 400.0).item())


def test_the_options_name_a_loss_and_refuse_others_with_what_there_is() -> None:
    assert TrainingOptions().loss == "masked_rmse"
    known = r"masked_rmse, masked_mse, masked_mae, masked_huber \(got 'masked_rsme'\)"
    with pytest.raises(BadInputError, match=f"loss: there is no loss of this name.*{known}"):
        TrainingOptions.model_validate({"loss": "masked_rsme"})


def test_a_name_is_not_taken_twice() -> None:
    def other(prediction, target, limit):
        raise AssertionError

    other.__name__ = "masked_rmse"
    with pytest.raises(ValueError, match="a loss masked_rmse already"):
        register(other)
    assert LOSSES["masked_rmse"] is masked_rmse


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # Of four pixels two have no label: errors 3 and −4.
        (masked_rmse, 12.5**0.5),
        (masked_mse, 12.5),
        (masked_mae, 3.5),
        (masked_huber, 6.25),
    ],
)
def test_pixels_without_label_are_left_out_worked_by_hand(loss, expected) -> None:
    target = torch.tensor([[[10.0, torch.nan], [torch.nan, 60.0]], [[torch.nan] * 2] * 2])
    prediction = torch.tensor([[[13.0, 5.0], [999.0, 56.0]], [[7.0] * 2] * 2], requires_grad=True)
    losses = loss(prediction, target, 400.0)
    assert losses.tolist() == pytest.approx([expected, 0.0])  # a crop may have no label at all
    losses.mean().backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()
    assert (prediction.grad[target.isnan()] == 0).all()
    assert (prediction.grad[~target.isnan()] != 0).all()


def test_the_loss_that_the_page_adds():
    page = (Path(__file__).parents[2] / "docs/how_to/extend.md").read_text()
    code, *_of_the_sensor = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(code, {"__name__": "my_losses"})
    try:
        assert TrainingOptions(loss="masked_log_error").loss == "masked_log_error"
    finally:
        loss = LOSSES.pop("masked_log_error")
    prediction = torch.tensor([[[0.0, 0.0]], [[5.0, 5.0]]], requires_grad=True)
    target = torch.tensor([[[math.e - 1, 500.0]], [[float("nan"), 400.0]]])
    values = loss(prediction, target, 400.0)
    assert values.tolist() == pytest.approx([1.0, 0.0])  # (log 1 - log e)², and no label
    values.sum().backward()
    assert torch.isfinite(prediction.grad).all()
