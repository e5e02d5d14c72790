"""Gates by channel and by pixel: their values, and gradients that nobody derives but us."""

import pytest
import torch

from biomassters.network.decoder import DecoderBlock, ScSE


def plain(gate: ScSE, x: torch.Tensor) -> torch.Tensor:
    """The formula as it stands in the paper."""
    return x * gate.cSE(x) + x * gate.sSE(x)


@pytest.fixture
def gate() -> ScSE:
    torch.manual_seed(0)
    return ScSE(32).double()


def images(layout: torch.memory_format) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 32, 5, 4, generator=generator, dtype=torch.float64)
    return x.contiguous(memory_format=layout).requires_grad_()


def test_values_worked_by_hand() -> None:
    gate = ScSE(2)
    for weight in gate.parameters():
        torch.nn.init.zeros_(weight)
    torch.nn.init.constant_(gate.sSE[0].bias, 100.0)  # the pixel's gate is wide open
    x = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)
    assert gate(x).flatten().tolist() == [4.5, -3.0]  # x · (½ + 1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_the_formula(gate, layout) -> None:
    x = images(layout)
    inputs = (x, *gate.parameters())
    towards = torch.randn(3, 32, 5, 4, dtype=torch.float64)
    found, expected = gate(x), plain(gate, x)
    torch.testing.assert_close(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, inputs, towards),
        torch.autograd.grad(expected, inputs, towards),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_gradients_are_the_differences(gate) -> None:
    assert torch.autograd.gradcheck(gate, (images(torch.contiguous_format),))


def test_the_reference_names_its_gates_so() -> None:
    names = dict(DecoderBlock(16, 8, 4, scse=True).named_parameters())
    for gate in ("attention1", "attention2"):
        assert f"{gate}.attention.cSE.1.weight" in names
        assert f"{gate}.attention.sSE.0.bias" in names
