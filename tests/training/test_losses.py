import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biomassters.training.losses import masked_rmse, masked_rmse_per_chip


def test_values_worked_by_hand() -> None:
    target = torch.tensor([[[10.0, 20.0], [30.0, 500.0]], [[0.0, 0.0], [0.0, 0.0]]])
    prediction = torch.tensor([[[13.0, 16.0], [30.0, -900.0]], [[6.0, 6.0], [6.0, 6.0]]])
    # Chip 1: errors 3, -4, 0 over three pixels, sqrt(25 / 3); the outlier is left out.
    expected = [(25 / 3) ** 0.5, 6.0]
    assert masked_rmse_per_chip(prediction, target).tolist() == pytest.approx(expected)
    assert masked_rmse(prediction, target).item() == pytest.approx(sum(expected) / 2)


def test_the_limit_itself_is_left_out() -> None:
    target = torch.tensor([[[400.0, 399.0]]])
    assert masked_rmse(torch.zeros(1, 1, 2), target).item() == pytest.approx(399.0)
    assert masked_rmse(torch.zeros(1, 1, 2), target, limit=399.5).item() == pytest.approx(399.0)
    assert masked_rmse(torch.zeros(1, 1, 2), target, limit=399.0).item() == 0.0


@pytest.mark.parametrize(
    "target",
    [
        torch.full((2, 4, 4), 1000.0),  # nothing counts
        torch.full((2, 4, 4), float("nan")),  # nothing known
        torch.ones(2, 4, 4),  # predicted perfectly
    ],
)
def test_loss_and_gradient_are_zero_where_there_is_nothing_to_learn(target) -> None:
    prediction = torch.ones(2, 4, 4, requires_grad=True)
    loss = masked_rmse(prediction, target)
    loss.backward()
    assert loss.item() == 0.0
    assert prediction.grad is not None
    assert prediction.grad.tolist() == torch.zeros(2, 4, 4).tolist()


def test_gradient_worked_by_hand() -> None:
    prediction = torch.tensor([[[3.0, 4.0]]], requires_grad=True)
    masked_rmse(prediction, torch.zeros(1, 1, 2)).backward()
    # d sqrt((a² + b²) / 2) / da = a / (2 · rmse), with rmse = sqrt(12.5)
    expected = [3.0 / (2 * 12.5**0.5), 4.0 / (2 * 12.5**0.5)]
    assert prediction.grad is not None
    assert prediction.grad.flatten().tolist() == pytest.approx(expected)


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4),
    st.lists(st.floats(0, 1e4, width=32) | st.just(float("nan")), min_size=4, max_size=4),
)
def test_loss_and_gradient_are_always_finite(predicted, target) -> None:
    prediction = torch.tensor(predicted).view(1, 2, 2).requires_grad_()
    loss = masked_rmse(prediction, torch.tensor(target).view(1, 2, 2))
    loss.backward()
    assert prediction.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad.norm() <= 1.001


def test_a_nan_prediction_of_a_masked_pixel_does_no_harm() -> None:
    prediction = torch.tensor([[[float("inf"), 5.0]]], requires_grad=True)
    loss = masked_rmse(prediction, torch.tensor([[[1000.0, 2.0]]]))
    loss.backward()
    assert loss.item() == pytest.approx(3.0)
    assert prediction.grad is not None
    assert prediction.grad.flatten().tolist() == [0.0, 1.0]


def test_equal_parts_average_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.rand(4, 8, 8, generator=generator) * 600 for _ in range(2))
    parts = [masked_rmse(prediction[a : a + 2], target[a : a + 2]) for a in (0, 2)]
    assert masked_rmse(prediction, target).item() == pytest.approx(sum(parts).item() / 2)


def test_half_precision_predictions_are_compared_in_float32() -> None:
    prediction = torch.full((1, 64, 64), 300.0, dtype=torch.bfloat16)
    assert masked_rmse(prediction, torch.zeros(1, 64, 64)).item() == pytest.approx(300.0)
