"""The two commands of the README, small, by the real command line."""

import pystac
import pytest
import rasterio

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def weights(project):
    import torch

    from biomassters.chips.scaling import BandScaling
    from biomassters.network.agb_net import AgbNet
    from biomassters.network.options import NetworkOptions
    from biomassters.network.weights import save_network

    torch.manual_seed(0)
    network = AgbNet(NetworkOptions(decoder_channels=(8,) * 5), BandScaling.reference())
    path = project / "data/06_models/test/weights.safetensors"
    save_network(network.eval(), path, {"chip_size": 64})
    return path


@pytest.fixture(scope="module")
def mapped(project, kedro, weights):
    result = kedro("run", "--env", "test", "--pipelines", "region_simulation")
    assert result.returncode == 0, result.stdout + result.stderr
    result = kedro("run", "--env", "test", "--pipelines", "mapping")
    assert result.returncode == 0, result.stdout + result.stderr
    return project / "data/07_model_output/test/region"


def test_simulate_and_map(mapped, kedro):
    with rasterio.open(mapped / "agb.tif") as file:
        assert file.shape == (96, 128)
    assert {path.name for path in mapped.iterdir()} == {
        "agb.qml", "agb.tif", "agb.tif.html", "agb.tif.item.json", "agb.tif.png",
        "agb.tif.summary.json",
    }  # fmt: skip
    again = kedro("run", "--env", "test", "--pipelines", "mapping")
    assert again.returncode == 1
    assert again.stderr.strip().splitlines()[-1].endswith("another place with 'region_map=PATH'.")


def test_the_stac_item_is_valid(mapped, optional):
    optional("jsonschema")  # the validator
    pystac.Item.from_file(mapped / "agb.tif.item.json").validate()


def test_images_that_are_not_there(project, kedro, weights):
    result = kedro("run", "--env", "test", "--pipelines", "mapping",
                   "--params", "region_root=nowhere,region_map=data/other.tif")  # fmt: skip
    assert result.returncode == 1
    assert (
        "nowhere: give a folder, a STAC item collection or a Zarr cube"
        in result.stderr.strip().splitlines()[-1]
    )


def test_the_starter_maps_by_its_name(mapped, project, kedro):
    result = kedro("run", "--env", "test", "--pipelines", "mapping", "--params",
                   "weights=starter,region_map=data/starter.tif")  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    with rasterio.open(project / "data/starter.tif") as file:
        assert file.tags()["weights"] == "starter"
