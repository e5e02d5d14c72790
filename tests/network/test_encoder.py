import logging
import os
import time

import pytest
import timm
import torch

from biomassters.errors import BadInputError
from biomassters.network.encoder import Encoder, adapt_stem, check_pretrained, resolve_backbone

FAMILIES = [
    "tf_efficientnetv2_b0",
    "mobilenetv3_small_050",
    "lcnet_035",
    "resnet18",
    "resnet18d",
    "regnetx_002",
    "densenet121",
    "mobilenetv4_conv_small",
    "ghostnet_100",
    "repvgg_a0",
    "dla34",
    "hrnet_w18_small",
]


@pytest.mark.parametrize("backbone", FAMILIES)
def test_five_levels_of_fifteen_bands(backbone):
    encoder = Encoder(backbone, 15).eval()
    with torch.no_grad():
        levels = encoder(torch.rand(1, 15, 64, 64))
    assert [tuple(level.shape[2:]) for level in levels] == [
        (32, 32), (16, 16), (8, 8), (4, 4), (2, 2)
    ]  # fmt: skip
    assert tuple(level.shape[1] for level in levels) == encoder.channels


@pytest.mark.parametrize("backbone", FAMILIES)
def test_only_the_stem_differs_from_three_band_weights(backbone):
    torch.manual_seed(2)
    rgb = timm.create_model(backbone, features_only=True).state_dict()
    encoder = Encoder(backbone, 15)
    adapted = adapt_stem(rgb, encoder.model.state_dict())
    encoder.model.load_state_dict(adapted)
    different = [key for key in rgb if rgb[key].shape != adapted[key].shape]
    assert len(different) >= 1
    for key in rgb.keys() - set(different):
        torch.testing.assert_close(adapted[key], rgb[key], rtol=0, atol=0)
    for key in different:
        repeated = torch.cat([rgb[key]] * 5, dim=1) * 3 / 15
        torch.testing.assert_close(adapted[key], repeated)
    # Every band the same image: the adapted stem answers as the three-band one.
    grey = torch.rand(1, 1, 64, 64)
    three = timm.create_model(backbone, features_only=True).eval()
    three.load_state_dict(rgb)
    with torch.no_grad():
        expected = three(grey.expand(1, 3, 64, 64))[-1]
        found = encoder.eval()(grey.expand(1, 15, 64, 64))[-1]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_weights_of_another_backbone_are_refused():
    with pytest.raises(BadInputError, match="is unmatched"):
        adapt_stem({"a": torch.ones(1)}, {"b": torch.ones(1)})
    with pytest.raises(BadInputError, match=r"conv has shape \(4, 2, 3, 3\)"):
        adapt_stem({"conv": torch.ones(4, 2, 3, 3)}, {"conv": torch.ones(4, 15, 3, 3)})


@pytest.mark.parametrize(
    ("name", "current"),
    [
        ("tf_efficientnetv2_l_in21k", "tf_efficientnetv2_l.in21k"),
        ("tf_efficientnetv2_s_in21ft1k", "tf_efficientnetv2_s.in21k_ft_in1k"),
        ("tf_efficientnet_b5_ns", "tf_efficientnet_b5.ns_jft_in1k"),
        ("tf_efficientnetv2_l.in21k", "tf_efficientnetv2_l.in21k"),
        ("resnet18", "resnet18"),
    ],
)
def test_old_and_new_names_are_understood(name, current):
    assert resolve_backbone(name) == current


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("tf_efficientnetv2_k", "did you mean .*tf_efficientnetv2_"),
        ("mobilenetv3_smal_050", "did you mean mobilenetv3_small_050"),
        ("resnet18.in22k", r"of resnet18 it has .*resnet18\.a1_in1k"),
        ("convnext_tiny", r"strides \[4, 8, 16, 32\].*choose one such as"),
        ("", "timm knows no backbone ''"),
    ],
)
def test_unknown_backbones_are_refused_with_close_names(name, remedy):
    with pytest.raises(BadInputError, match=remedy) as caught:
        Encoder(name, 15)
    assert "\n" not in str(caught.value)


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def test_pretrained_weights_out_of_reach_are_refused(no_hub):
    start = time.perf_counter()
    for ask in (check_pretrained, lambda name: Encoder(name, 15, pretrained=True)):
        with pytest.raises(
            BadInputError, match=r"lcnet_050 .*network\.allow_random_start"
        ) as caught:
            ask("lcnet_050")
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < 60


def test_a_random_start_that_is_allowed_says_so(no_hub, caplog):
    with caplog.at_level(logging.INFO):
        Encoder("lcnet_050", 15, pretrained=True, allow_random_start=True)
    (warning,) = caplog.messages
    assert "starts from random weights" in warning
    assert "lcnet_050" in warning


@pytest.mark.network
@pytest.mark.skipif(
    os.environ.get("BIOMASSTERS_NETWORK") != "1", reason="needs the internet: BIOMASSTERS_NETWORK=1"
)
def test_pretrained_weights_come_from_the_hub():
    three = timm.create_model("lcnet_050", features_only=True, pretrained=True).state_dict()
    ours = Encoder("lcnet_050", 15, pretrained=True).model.state_dict()
    for key in three.keys() - {"conv_stem.weight"}:
        torch.testing.assert_close(ours[key], three[key], rtol=0, atol=0)
    repeated = torch.cat([three["conv_stem.weight"]] * 5, dim=1) * 3 / 15
    torch.testing.assert_close(ours["conv_stem.weight"], repeated)
