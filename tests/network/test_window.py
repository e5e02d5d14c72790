"""A network must not hang on weights that its training never reached."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.network.window import (
    check_trained_window,
    check_window,
    smallest_window,
    untrained_kernels,
)
from biomassters.simulation.options import SimulationOptions
from biomassters.training.options import TrainingOptions

REPOSITORY = Path(__file__).parents[2]
SMALL = "mobilenetv3_small_050"
WINDOWS = (64, 96, 128, 256)
DEFAULT = TrainingOptions().crop or SimulationOptions().chip_size


def new_network() -> AgbNet:
    torch.manual_seed(1)
    return AgbNet(NetworkOptions(decoder_channels=(16, 16, 8, 8, 8)), BandScaling.reference())


def move_untrained_taps(network: AgbNet, side: int) -> int:
    """Change every tap that a backward pass on images of a side leaves without a gradient."""
    moved = 0
    months = torch.rand(4, 15, side, side)
    network.train().forward_scaled(months, torch.tensor([0, 0, 1, 1]), 2).square().mean().backward()
    for layer in network.modules():
        # The only tap of a 1 x 1 kernel may rest for other reasons: behind a gate that is shut.
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
            assert layer.weight.grad is not None
            untouched = layer.weight.grad.abs().amax(dim=(0, 1)) == 0
            moved += int(untouched.sum())
            layer.weight.data[:, :, untouched] += 1.0
    return moved


def maps(network: AgbNet, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(side)
    with torch.inference_mode():
        months = torch.rand(2, 15, side, side, generator=generator)
        return network.eval().forward_scaled(months, torch.tensor([0, 0]), 1)


@pytest.mark.parametrize("trained", [64, DEFAULT])
def test_maps_of_any_size_hang_on_trained_weights_alone(trained):
    """Crops of 64, once the default, leave taps as they were born, which act from 96 on."""
    network = new_network()
    before = {side: maps(network, side) for side in WINDOWS}
    state = {name: value.clone() for name, value in network.named_buffers()}
    moved = move_untrained_taps(network, trained)
    with torch.no_grad():  # the norms' statistics as they were
        for name, value in network.named_buffers():
            value.copy_(state[name])
    apart = [side for side in WINDOWS if not torch.allclose(maps(network, side), before[side])]
    assert apart == ([96, 128, 256] if trained == 64 else [])
    assert (moved > 0) == (trained == 64)
    assert bool(untrained_kernels(SMALL, trained)) == (trained == 64)


def test_kernels_that_a_map_of_two_by_two_does_not_train():
    found = untrained_kernels(SMALL, 64)
    assert {(one.kernel, one.image) for one in found} == {((5, 5), (2, 2))}
    assert all("conv_dw" in one.layer for one in found)


@pytest.mark.parametrize(
    ("backbone", "side"),
    # At stride 32 taps of 5 x 5 need a map of 3 x 3, those of 3 x 3 one of 2 x 2, whether layers
    # pad by plain numbers or as TensorFlow does.
    [(SMALL, 96), ("tf_efficientnetv2_b0", 64), ("resnet18", 64), ("tf_mobilenetv3_small_075", 96)],
)
def test_the_smallest_window_follows_from_kernels_and_strides(backbone, side):
    assert smallest_window(backbone) == side


def test_small_crops_are_refused_with_the_remedy():
    with pytest.raises(
        BadInputError, match=r"training.crop is 64 pixels.*at least 96 pixels"
    ) as said:
        check_window(SMALL, 64, "training.crop is")
    assert "\n" not in str(said.value)
    check_window(SMALL, 96, "training.crop is")


def test_weights_of_small_crops_are_refused_on_larger_images_alone():
    old = {"network": {"backbone": SMALL}, "recipe": {"crop": 64}, "chip_size": 96}
    check_trained_window(old, 64, "old")
    with pytest.raises(
        BadInputError, match=r"old was trained on windows of 64 pixels.*images of 256"
    ):
        check_trained_window(old, 256, "old")
    check_trained_window({**old, "window": 96}, 256, "new")
    check_trained_window({**old, "window": 96}, 64, "new")
    check_trained_window({}, 256, "foreign")


@pytest.mark.parametrize("environment", ["base", "test", "biomassters", "biomassters_small"])
def test_every_recipe_trains_all_of_its_kernels(environment):
    told: dict = {}
    for name in dict.fromkeys(("base", environment)):
        for path in sorted((REPOSITORY / "conf" / name).glob("parameters*.yml")):
            for key, value in yaml.safe_load(path.read_text()).items():
                told[key] = {**told.get(key, {}), **value} if isinstance(value, dict) else value
    chip = 256 if environment.startswith("biomassters") else told["simulation"]["chip_size"]
    side = told["training"]["crop"] or chip
    assert not untrained_kernels(told["network"]["backbone"], side)


@pytest.fixture(scope="module")
def window_errors():
    """The benchmark that maps a chip in windows."""
    spec = importlib.util.spec_from_file_location(
        "window_errors", REPOSITORY / "benchmarks" / "window_errors.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["window_errors"] = module
    spec.loader.exec_module(module)
    return module


def test_a_real_chip_is_mapped_alike_whatever_no_training_reached(real_chips_root, window_errors):
    chip = window_errors.read_chip(real_chips_root / "288afc34" / "288afc34")
    for trained, alike in ((64, False), (DEFAULT, True)):
        network = new_network().eval()
        before = window_errors.map_in_windows(network, chip, 256)
        kept = {name: value.clone() for name, value in network.named_buffers()}
        move_untrained_taps(network, trained)
        with torch.no_grad():
            for name, value in network.named_buffers():
                value.copy_(kept[name])
        after = window_errors.map_in_windows(network.eval(), chip, 256)
        assert bool((abs(after - before) < 1e-3).all()) == alike


def test_windows_overlap_by_half_and_cover_the_chip(window_errors):
    assert window_errors.starts(256, 64) == [0, 32, 64, 96, 128, 160, 192]
    assert window_errors.starts(256, 96) == [0, 40, 80, 120, 160]
    assert window_errors.starts(256, 256) == [0]
