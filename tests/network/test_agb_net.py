import subprocess
import sys

import numpy as np
import pytest
import torch

from biomassters.chips.bands import S1, S1_NODATA_DB
from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet, BandScaler
from biomassters.network.options import NetworkOptions

TINY = NetworkOptions(backbone="lcnet_035", decoder_channels=(12, 10, 8, 8, 6))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return AgbNet(TINY, BandScaling.reference()).eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    s1_db = torch.empty(5, 4, 64, 32).uniform_(-30, 0, generator=generator)
    s2 = torch.randint(0, 40000, (5, 11, 64, 32), generator=generator)
    return {"s1": s1_db, "s2": s2.float()}


CHIP_OF_MONTH = torch.tensor([0, 0, 0, 1, 1])


def test_stored_integers_predict_as_decibels_do(network, images):
    s2 = images["s2"].int().to(torch.uint16)
    s1 = (images["s1"] * 100).round().to(torch.int16)
    s1[1, 2:] = S1.fill
    s1_db = s1.float() / 100
    s1_db[1, 2:] = S1_NODATA_DB
    s1_db[1, 3] = torch.nan
    with torch.no_grad():
        stored = network({"s1": s1, "s2": s2}, CHIP_OF_MONTH)
        plain = network({"s1": s1_db, "s2": images["s2"]}, CHIP_OF_MONTH, 2)
    assert stored.shape == (2, 1, 64, 32)
    assert stored.dtype == torch.float32
    assert torch.isfinite(stored).all()
    torch.testing.assert_close(stored, plain, rtol=1e-4, atol=5e-5)


def test_scaling_by_hand(network):
    s1 = torch.full((1, 4, 32, 32), S1.fill, dtype=torch.int16)
    s1[0, 0] = -2500  # −25 dB, the minimum of VV: 0
    s1[0, 1] = 2800  # 28 dB, the maximum of VH ascending: 1
    s1[0, 2] = 3550  # 35.5 dB on VV descending, −25 … 30: 1.1, not clipped
    s2 = torch.zeros((1, 11, 32, 32), dtype=torch.int32)
    s2[0, 0], s2[0, 1], s2[0, 10] = 19616, 36800, 255
    x = network.scale({"s1": s1, "s2": s2.to(torch.uint16)})
    expected = [0, 1, 1.1, 0, 1, 2, *[0] * 8, 1]
    torch.testing.assert_close(x[0, :, 5, 7], torch.tensor(expected), rtol=1e-6, atol=1e-6)


def test_no_data_that_was_resampled_is_zero_after_scaling(network):
    """Near −9999 but not it: stored integers and dB alike see nothing there."""
    s1, s2 = torch.full((1, 4, 32, 32), -9998.99), torch.zeros(1, 11, 32, 32)
    assert (network.scale({"s1": s1, "s2": s2}) == 0).all()


def test_images_that_do_not_exist_become_zero_after_scaling():
    reference = BandScaling.reference()
    raised = {name: value + 100 for name, value in reference.minimum.items() if name[0] == "B"}
    scaling = BandScaling(reference.minimum | raised, reference.maximum)
    s1 = torch.full((2, 4, 4, 4), S1.fill, dtype=torch.int16)
    s2 = torch.zeros(2, 11, 4, 4)
    s2[1, 0, 0, 0] = 100
    x = BandScaler(scaling)({"s1": s1, "s2": s2})
    assert (x[0] == 0).all()
    assert x[1, 4, 0, 0] == 0
    assert x[1, 4, 1, 1] < 0  # an image that exists is scaled like any other
    assert (x[1, :4] == 0).all()


def test_scaling_survives_half_precision_weights(network, images):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = network.scale(images)
    offset, band_range = BandScaling.reference().offset_and_range()
    values = np.concatenate([images["s1"].numpy(), images["s2"].numpy()], axis=1)
    expected = (values - offset[:, None, None]) / band_range[:, None, None]
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_order_of_chips_and_company_do_not_matter(network, images):
    x = network.scale(images)
    with torch.no_grad():
        together = network.forward_scaled(x, CHIP_OF_MONTH)
        second = network.forward_scaled(x[3:], torch.tensor([0, 0]))
    torch.testing.assert_close(together[1:], second, rtol=1e-4, atol=5e-5)


def test_months_can_come_in_any_order_within_a_chip(network, images):
    x = network.scale(images)
    with torch.no_grad():
        found = network.forward_scaled(x[[2, 0, 1, 4, 3]], CHIP_OF_MONTH)
        torch.testing.assert_close(
            found, network.forward_scaled(x, CHIP_OF_MONTH), rtol=1e-4, atol=5e-5
        )


def test_a_repeated_step_gives_the_same_bits(images):
    def step():
        torch.manual_seed(4)
        network = AgbNet(TINY, BandScaling.reference()).train()
        network(images, CHIP_OF_MONTH, 2).square().mean().backward()
        return [weight.grad for weight in network.parameters() if weight.grad is not None]

    for first, second in zip(step(), step(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_every_trainable_weight_gets_a_gradient(images):
    network = AgbNet(TINY, BandScaling.reference()).train()
    network(images, CHIP_OF_MONTH, 2).sum().backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert without == network.weights_never_called()
    assert [n for n, weight in network.named_parameters() if not weight.requires_grad] == without


@pytest.mark.parametrize(("height", "width"), [(33, 64), (64, 48), (16, 32), (0, 32)])
def test_sizes_that_cannot_be_halved_five_times_are_refused(network, height, width):
    x = torch.zeros(1, 15, height, width)
    with pytest.raises(BadInputError, match=f"divisible by 32, got {height} x {width}"):
        network.forward_scaled(x, torch.tensor([0]))


def test_images_of_other_bands_or_sizes_are_refused(network):
    def predict(**images):
        network(images, torch.tensor([0]))

    with pytest.raises(BadInputError, match=r"s1 images \[months, 4, height, width\], got"):
        predict(s1=torch.zeros(1, 3, 32, 32), s2=torch.zeros(1, 11, 32, 32))
    with pytest.raises(BadInputError, match=r"s2 images \[months, 11, height, width\], got None"):
        predict(s1=torch.zeros(1, 4, 32, 32))
    with pytest.raises(BadInputError, match="same months and size"):
        predict(s1=torch.zeros(1, 4, 32, 32), s2=torch.zeros(1, 11, 64, 32))


@pytest.mark.parametrize("widths", [(7, 5, 3, 2, 1), (64, 48, 40, 32, 24)])
@pytest.mark.parametrize("scse", [True, False])
def test_any_widths_with_and_without_gates(widths, scse):
    options = NetworkOptions(backbone="lcnet_035", decoder_channels=widths, scse=scse)
    network = AgbNet(options, BandScaling.reference()).eval()
    with torch.no_grad():
        agb = network.forward_scaled(torch.rand(2, 15, 32, 64), torch.tensor([0, 1]))
    assert agb.shape == (2, 1, 32, 64)
    assert network.segmentation_head.in_channels == widths[-1]
    assert bool(network.weights_never_called()) == scse


WITH_TORCH_AND_TIMM_ALONE = """
import sys

sys.modules.update(dict.fromkeys(["pydantic", "pandas", "zarr", "kedro", "rasterio"]))
sys.path.insert(0, sys.argv[1])
import network as benchmark
import torch

case = benchmark.SimpleNamespace(device="cpu", backbone="lcnet_035", size=32, batch=1)
plain, ours = benchmark.build(case)
ways = benchmark.forwards(plain.eval(), benchmark.fold_batch_norm(ours))
difference = benchmark.largest_difference(ways, benchmark.Images(case, 1, drop=True))
assert difference < 1e-4, difference
"""


def test_the_benchmark_needs_torch_and_timm_alone(pytestconfig):
    folder = pytestconfig.rootpath / "benchmarks"
    code = [sys.executable, "-c", WITH_TORCH_AND_TIMM_ALONE, str(folder)]
    subprocess.run(code, check=True)
