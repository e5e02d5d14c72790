"""However the network is computed, the result and the gradients are those of the plain way."""

import copy
import logging
import pickle
from functools import cache

import pytest
import torch

from biomassters.chips.scaling import BandScaling
from biomassters.network.agb_net import AgbNet
from biomassters.network.execution import CompiledOrPlain
from biomassters.network.folding import fold_batch_norm
from biomassters.network.options import ExecutionOptions, NetworkOptions

PLAIN = ExecutionOptions(channels_last=False, subpixel=False, winograd=False)
CHIP_OF_MONTH = torch.tensor([0, 0, 0, 1, 2, 2])


def _network(backbone="tf_efficientnetv2_b0", widths=(24, 20, 16, 16, 16), scse=True):
    torch.manual_seed(1)
    options = NetworkOptions(backbone=backbone, decoder_channels=widths, scse=scse)
    network = AgbNet(options, BandScaling.reference())
    for norm in network.modules():  # as if trained: statistics and gains that matter
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.uniform_(norm.bias, -0.2, 0.2)
    return network


def _images():
    generator = torch.Generator().manual_seed(3)
    return torch.rand(6, 15, 64, 64, generator=generator)


def _step(network, execution):
    """Output, gradients and statistics of one step."""
    network = copy.deepcopy(network).configure(execution)
    images = _images().to(network.segmentation_head.weight.dtype)
    agb = network.forward_scaled(images, CHIP_OF_MONTH, 3)
    (agb * torch.linspace(-1, 2, agb.numel()).view_as(agb)).sum().backward()
    gradients = {
        name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None
    }
    return agb.detach(), gradients, dict(network.named_buffers())


def _close(found, expected, relative=1e-4, floor=1e-7):
    assert (found - expected).abs().max() <= relative * expected.abs().max() + floor


WAYS = {
    "channels_last": PLAIN.model_copy(update={"channels_last": True}),
    "subpixel": PLAIN.model_copy(update={"subpixel": True}),
    "winograd": PLAIN.model_copy(update={"winograd": True}),
    "default": ExecutionOptions(),
    "everything": ExecutionOptions(subpixel=True, winograd=True,
                                   checkpoint_levels=(0, 1, 2, 3, 4)),
    "one level recomputed": PLAIN.model_copy(update={"checkpoint_levels": (1,)}),
}  # fmt: skip


@pytest.mark.parametrize(("device", "layout"), [("cpu", torch.channels_last),
                                                ("meta", torch.contiguous_format)])  # fmt: skip
def test_images_lie_channels_last_by_themselves_on_a_cpu_alone(device, layout):
    network = _network("mobilenetv3_small_050").to(device).configure(ExecutionOptions())
    of = {"s1": 4, "s2": 11}
    images = {name: torch.zeros(2, n, 32, 64, device=device) for name, n in of.items()}
    assert network.scale(images).is_contiguous(memory_format=layout)


@cache
def _plain_in_float64(backbone):
    network = _network(backbone).double().train()
    return network, _step(network, PLAIN)


@cache
def _plain_in_float32():
    network = _network(widths=(208, 24, 16, 200, 64)).eval()
    return network, _step(network, PLAIN)


@pytest.mark.parametrize("backbone", ["tf_efficientnetv2_b0", "mobilenetv3_small_050", "resnet18"])
@pytest.mark.parametrize("way", WAYS)
def test_training_step_is_the_plain_one(backbone, way):
    # In float64 the ways may differ by rounding alone; in float32 a single step through tens of
    # BatchNorms on six images turns rounding into more than 1e-4, whichever way comes first.
    network, (agb, gradients, buffers) = _plain_in_float64(backbone)
    found, found_gradients, found_buffers = _step(network, WAYS[way])
    _close(found, agb, 1e-9)
    assert found_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        _close(found_gradients[name], gradient, 1e-7)
    for name, buffer in buffers.items():
        _close(found_buffers[name].double(), buffer.double(), 1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_float32_output_and_gradients_are_the_plain_ones(way):
    network, (agb, gradients, _) = _plain_in_float32()
    found, found_gradients, _ = _step(network, WAYS[way])
    _close(found, agb)
    # Some gradients are 0 but for rounding, such as that of a bias before a softmax.
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, gradient in gradients.items():
        _close(found_gradients[name], gradient, floor=1e-6 * largest)


@pytest.mark.parametrize("backbone", ["tf_efficientnetv2_b0", "mobilenetv3_small_050", "resnet18"])
@pytest.mark.parametrize("scse", [True, False])
def test_folded_norms_predict_the_same(backbone, scse):
    network = _network(backbone, scse=scse).eval()
    folded = fold_batch_norm(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        expected = network.forward_scaled(_images(), CHIP_OF_MONTH)
        _close(folded.forward_scaled(_images(), CHIP_OF_MONTH), expected)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_folding_leaves_alone_what_follows_no_convolution():
    network = _network("densenet121").eval()
    folded = fold_batch_norm(network)
    with torch.no_grad():
        expected = network.forward_scaled(_images(), CHIP_OF_MONTH)
        _close(folded.forward_scaled(_images(), CHIP_OF_MONTH), expected)


def test_recomputing_keeps_less_for_the_backward_pass():
    def kept(execution):
        network = _network().configure(execution).train()
        sizes = {}

        def keep(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network.forward_scaled(_images(), CHIP_OF_MONTH, 3)
        return sum(sizes.values())

    plain = kept(PLAIN)
    assert kept(WAYS["one level recomputed"]) < plain
    assert kept(WAYS["everything"]) < 0.5 * plain


def test_half_precision_predicts_nearly_the_same_in_float32_steps():
    network = _network().eval()
    with torch.no_grad():
        expected = network.forward_scaled(_images(), CHIP_OF_MONTH)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network.forward_scaled(_images(), CHIP_OF_MONTH)
    assert found.dtype == torch.float32
    _close(found, expected, 0.05)


def test_a_configured_network_can_be_copied_and_pickled():
    network = _network("lcnet_035").eval().configure(
        ExecutionOptions(compile=True, checkpoint_levels=(0,))
    )  # fmt: skip
    copied = pickle.loads(pickle.dumps(copy.deepcopy(network)))
    assert copied.state_dict().keys() == network.state_dict().keys()


def _double(x):
    return 2 * x


def test_without_a_compiler_a_function_runs_plainly_and_says_so_once(monkeypatch, caplog):
    def no_compiler(function, **_):
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", no_compiler)
    double = CompiledOrPlain(_double, "decoder")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            torch.testing.assert_close(double(torch.ones(2)), torch.full((2,), 2.0))
    assert caplog.messages == [
        "The decoder runs uncompiled: torch.compile failed (no C++ compiler)."
    ]


@pytest.mark.slow
def test_a_compiled_function_gives_the_same():
    double = CompiledOrPlain(_double, "decoder")
    torch.testing.assert_close(double(torch.ones(2)), torch.full((2,), 2.0))
