"""Folding BatchNorm where a GPU's arithmetic, emulated here, is coarser than float32."""

import copy

import pytest
import torch
from torch.overrides import TorchFunctionMode

from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.inference.device import autocast, choose_device
from biomassters.network.agb_net import AgbNet
from biomassters.network.folding import fold_batch_norm
from biomassters.network.options import NetworkOptions

CPU = torch.device("cpu")


def tf32(values: torch.Tensor) -> torch.Tensor:
    """Round float32 to the 10 bits of mantissa that TF32 keeps, to nearest."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


class Tf32Convolutions(TorchFunctionMode):
    """Convolutions as an Ampere GPU does them by default: float32 inputs and weights rounded."""

    rounded = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if "conv" in getattr(function, "__name__", "") and args[0].dtype == torch.float32:
            self.rounded += 1
            args = (tf32(args[0]), tf32(args[1]), *args[2:])
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def network():
    """Norms that have seen images, and features with a standard deviation of tens."""
    torch.manual_seed(3)
    network = AgbNet(NetworkOptions(decoder_channels=(16, 16, 8, 8, 8)), BandScaling.reference())
    norms = [one for one in network.modules() if isinstance(one, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.uniform_(5.0, 20.0)
        network.train().forward_scaled(torch.rand(4, 15, 64, 64), torch.tensor([0, 0, 1, 1]))
    return network.eval()


def features(network: AgbNet, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 15, 64, 64, generator=generator).to(dtype)
    with torch.no_grad():
        return copy.deepcopy(network.encoder).to(dtype)(image)


def far_apart(network: AgbNet, folded: AgbNet, dtype: torch.dtype = torch.float64) -> bool:
    """Whether a check in this arithmetic would raise.

    float64 shows the weights alone; in float32 the order of sums, which differs between
    processors, is amplified by these norms to more than the tolerance.
    """
    levels = zip(features(folded, dtype), features(network, dtype), strict=True)
    return not all(torch.allclose(new, old, rtol=1e-3, atol=1e-3) for new, old in levels)


def test_rounding_to_tf32_by_hand():
    # 1 + 2^-10 is kept, 1 + 2^-11 lies halfway and goes up, a little less goes down.
    values = torch.tensor([1 + 2**-10, 1 + 2**-11, 1 + 2**-11 - 2**-20, -3.0])
    assert tf32(values).tolist() == [1 + 2**-10, 1 + 2**-10, 1.0, -3.0]


def test_folding_holds_in_tf32(network):
    with Tf32Convolutions() as mode:
        folded = fold_batch_norm(network)
        assert far_apart(
            network, folded, torch.float32
        )  # so a check in this arithmetic finds what isn't there
    assert mode.rounded
    assert not far_apart(network, folded)


def test_folding_holds_under_bfloat16_autocast(network):
    with autocast(CPU, "bfloat16"):
        folded = fold_batch_norm(network)
        assert far_apart(network, folded, torch.float32)
    assert not far_apart(network, folded)
    assert {value.dtype for value in folded.state_dict().values()} == {torch.float32}


def test_a_convolution_used_before_its_norm_is_still_found(network, monkeypatch):
    """The tolerance is fine enough to see one weight of one channel that is off by 1 %."""
    from biomassters.network import folding

    fold = folding._fold

    def fold_wrongly(norm, convolution):
        fold(norm, convolution)
        convolution.weight.data[0] *= 1.01

    monkeypatch.setattr(folding, "_fold", fold_wrongly)
    with pytest.raises(BadInputError, match=r"set inference\.fold_batch_norm to false"):
        fold_batch_norm(network)


def test_float32_on_a_gpu_is_float32():
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = True
    choose_device("cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
