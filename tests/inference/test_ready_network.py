import pytest
import torch

from biomassters.chips.scaling import BandScaling
from biomassters.inference.options import InferenceOptions
from biomassters.inference.ready_network import ready_network
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import ExecutionOptions, NetworkOptions

CPU = torch.device("cpu")


@pytest.fixture
def network():
    torch.manual_seed(3)
    network = AgbNet(NetworkOptions(decoder_channels=(16, 16, 8, 8, 8)), BandScaling.reference())
    with torch.no_grad():  # statistics of some data, so that folding has something to fold
        for norm in network.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.running_mean.normal_(0.0, 0.1)
                norm.running_var.uniform_(0.5, 2.0)
    return network


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize(
    "execution",
    [ExecutionOptions(), ExecutionOptions(channels_last=False, subpixel=True, winograd=True)],
)
def test_the_way_it_is_computed_does_not_change_the_map(network, fold, execution):
    months, chip_of_month = torch.rand(3, 15, 64, 64), torch.tensor([0, 0, 1])
    options = InferenceOptions(fold_batch_norm=fold, execution=execution)
    with torch.inference_mode():
        plain = network.eval().forward_scaled(months, chip_of_month, 2)
        ready = ready_network(network, options, CPU)
        result = ready.forward_scaled(months, chip_of_month, 2)
    assert ready.is_folded == fold
    assert not ready.training
    assert ready.execution == execution
    torch.testing.assert_close(result, plain, rtol=1e-4, atol=1e-4)


def test_the_network_itself_can_still_be_saved(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ready_network(network, InferenceOptions(), CPU)
    assert not network.is_folded
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
