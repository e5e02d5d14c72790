import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.inference.options import InferenceOptions
from biomassters.inference.predict import (
    VIEWS,
    MeanNetwork,
    apply_view,
    predict_batch,
    predict_batches,
    ready_network,
)
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import ExecutionOptions, NetworkOptions

CPU = torch.device("cpu")


@dataclass
class PackedMonths:
    images: dict[str, Tensor]
    chip_of_month: Tensor
    chip_ids: tuple[str, ...]

    def to(self, device: torch.device) -> "PackedMonths":
        return self


class MeanOfMonths(nn.Module):
    """First S1 band, averaged over a chip's months, times a weight for every pixel."""

    width = 1

    def __init__(self, weight_HW: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight_HW)
        self.calls: list[tuple[bool, bool]] = []

    def scale(self, images):
        return images["s1"].float()

    def forward_scaled(self, x_MCHW, chip_of_month, chip_count):
        self.calls.append((self.training, torch.is_grad_enabled()))
        total = torch.zeros(chip_count, *x_MCHW.shape[-2:])
        total.index_add_(0, chip_of_month, x_MCHW[:, 0])
        months = torch.bincount(chip_of_month, minlength=chip_count)
        return (total / months[:, None, None] * self.weight)[:, None]


def batch_of(ids: tuple[str, ...], months: list[int], size: int = 4, seed: int = 0) -> PackedMonths:
    generator = torch.Generator().manual_seed(seed)
    count = len(months)
    s1 = torch.randint(-2000, 2000, (count, 4, size, size), generator=generator)
    return PackedMonths(
        {
            "s1": s1.to(torch.int16),
            "s2": torch.zeros(count, 11, size, size, dtype=torch.uint16),
        },
        torch.tensor(months),
        ids,
    )


def test_images_are_scaled_once_for_all_views():
    class Counted(MeanOfMonths):
        scaled = 0

        def scale(self, images):
            self.scaled += 1
            return super().scale(images)

    network, batch = Counted(torch.ones(4, 4)), batch_of(("a",), [0])
    predict_batch(network, batch.images, batch.chip_of_month, 1, list(VIEWS))
    assert network.scaled == 1
    assert len(network.calls) == len(VIEWS)


def test_a_network_without_a_preferred_side_gives_the_same_in_every_view():
    network, batch = MeanOfMonths(torch.ones(4, 4)), batch_of(("a", "b"), [0, 0, 1])
    arguments = (network, batch.images, batch.chip_of_month, 2)
    plain = predict_batch(*arguments, ["identity"], clip_negative=False)
    assert plain.dtype == torch.float32
    assert torch.equal(plain[0], batch.images["s1"][:2, 0].float().mean(0))
    for view in VIEWS:
        assert torch.equal(predict_batch(*arguments, [view], clip_negative=False), plain)
    torch.testing.assert_close(predict_batch(*arguments, list(VIEWS), False), plain)


def test_views_average_the_weights_of_mirrored_pixels():
    weight = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    batch = batch_of(("a",), [0], size=2)
    batch.images["s1"][:] = 100
    arguments = (MeanOfMonths(weight), batch.images, batch.chip_of_month, 1)
    left_right = predict_batch(*arguments, ["identity", "left_right"])
    assert left_right[0].tolist() == [[150.0, 150.0], [450.0, 450.0]]
    assert predict_batch(*arguments, list(VIEWS))[0].tolist() == [[300.0] * 2] * 2


def test_negative_biomass_is_clipped_after_the_mean_and_only_on_demand():
    weight = torch.tensor([[-1.0, 2.0], [-1.0, -1.0]])
    batch = batch_of(("a",), [0], size=2)
    batch.images["s1"][:] = 10
    arguments = (MeanOfMonths(weight), batch.images, batch.chip_of_month, 1)
    views = ["identity", "left_right"]
    assert predict_batch(*arguments, views, False)[0].tolist() == [[5.0, 5.0], [-10.0, -10.0]]
    assert predict_batch(*arguments, views, True)[0].tolist() == [[5.0, 5.0], [0.0, 0.0]]


def test_batches_keep_their_order_and_the_network_its_mode(capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    network = MeanOfMonths(torch.ones(4, 4)).train()
    batches = [batch_of(("z", "a"), [0, 1, 1], seed=1), batch_of(("m",), [0], seed=2)]
    options = InferenceOptions(views=("identity", "both"), clip_negative=False)
    maps = dict(predict_batches(network, iter(batches), options, CPU, total=3))
    assert list(maps) == ["z", "a", "m"]
    np.testing.assert_allclose(maps["a"], batches[0].images["s1"][1:, 0].float().mean(0))
    assert maps["m"].dtype == np.float32
    assert network.calls == [(False, False)] * 6  # two parts and one, in each of two views
    assert network.training
    assert "predicting:   0%" in capfd.readouterr().err


def test_buffers_may_be_reused_for_the_next_batch(capfd):
    batch = batch_of(("first",), [0])

    def reusing():
        batch.images["s1"][:] = 7
        yield batch
        batch.images["s1"][:] = 9
        batch.chip_ids = ("second",)
        yield batch

    network = MeanOfMonths(torch.ones(4, 4))
    maps = dict(predict_batches(network, reusing(), InferenceOptions(), CPU, progress=False))
    assert (maps["first"] == 7).all()
    assert (maps["second"] == 9).all()
    assert capfd.readouterr().err == ""


def test_bfloat16_ends_in_float32():
    class Product(MeanOfMonths):
        def forward_scaled(self, x_MCHW, chip_of_month, chip_count):
            return (x_MCHW[:, :1] @ torch.eye(x_MCHW.shape[-1])).to(torch.bfloat16)

    batch = batch_of(("a",), [0])
    batch.images["s1"][:] = 100
    options = InferenceOptions(precision="bfloat16")
    ((_, agb),) = predict_batches(Product(torch.ones(4, 4)), [batch], options, CPU, progress=False)
    assert agb.dtype == np.float32
    assert (agb == 100).all()


def test_a_diverged_network_is_refused_by_chip_and_left_in_its_mode():
    network = MeanOfMonths(torch.full((4, 4), torch.nan)).train()
    batches = [batch_of(("a", "b"), [0, 1])]
    with pytest.raises(BadInputError, match="Chip a: the network predicts NaN"):
        list(predict_batches(network, batches, InferenceOptions(), CPU, progress=False))
    assert network.training


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


def small_network(seed: int) -> AgbNet:
    torch.manual_seed(seed)
    options = NetworkOptions(decoder_channels=(16, 16, 8, 8, 8))
    return AgbNet(options, BandScaling.reference()).eval()


@torch.inference_mode()
def test_a_mean_network_predicts_the_mean_of_its_members() -> None:
    members = [small_network(seed) for seed in (1, 2, 3)]
    generator = torch.Generator().manual_seed(4)
    s1 = torch.randint(-2500, -500, (3, 4, 64, 64), generator=generator).short()
    s2 = torch.randint(0, 5000, (3, 11, 64, 64), generator=generator)
    batch = {"s1": s1, "s2": s2}, torch.tensor([0, 0, 1]), 2
    alone = [member(*batch)[:, 0] for member in members]
    assert not torch.allclose(alone[0], alone[1])
    together = predict_batch(MeanNetwork(members), *batch, clip_negative=False)
    torch.testing.assert_close(together, sum(alone) / 3)


IMAGE = torch.tensor([[1, 2, 3], [4, 5, 6]])


def test_values_worked_by_hand():
    assert apply_view(IMAGE, "identity").tolist() == [[1, 2, 3], [4, 5, 6]]
    assert apply_view(IMAGE, "left_right").tolist() == [[3, 2, 1], [6, 5, 4]]
    assert apply_view(IMAGE, "up_down").tolist() == [[4, 5, 6], [1, 2, 3]]
    assert apply_view(IMAGE, "both").tolist() == [[6, 5, 4], [3, 2, 1]]
    assert torch.equal(apply_view(IMAGE, "both"), torch.rot90(IMAGE, 2))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [torch.int16, torch.uint16, torch.float32, torch.bfloat16])
def test_every_view_undoes_itself_in_every_type(view, dtype):
    images = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(dtype)
    seen = apply_view(images, view)
    assert seen.dtype == dtype
    assert seen.shape == images.shape
    assert torch.equal(apply_view(seen, view), images)


def test_unknown_view_is_named():
    with pytest.raises(ValueError, match=r"'diagonal'; choose from identity, left_right"):
        apply_view(IMAGE, "diagonal")
