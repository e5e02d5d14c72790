"""Small regions on disk, and small networks."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin
from rasterio.windows import Window

from biomassters.chips.bands import S1, S2
from biomassters.chips.scaling import BandScaling
from biomassters.regions.inputs.source import open_region
from biomassters.regions.options import AreaOptions, ImageOptions
from biomassters.simulation.options import RegionSimulationOptions
from biomassters.simulation.simulated_region import SimulatedRegion, write_region

WEST, NORTH = 400_000.0, 6_900_000.0


@pytest.fixture(scope="session", autouse=True)
def _as_workers_do(one_thread):
    """Processes and workers compute on one thread, so bytes can be compared."""


def write_tif(path, values, *, names=None, crs="EPSG:3067", pixel=10.0, west=WEST, north=NORTH,
              **profile):  # fmt: skip
    """A GeoTIFF of [bands, height, width]."""
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype,
        crs=crs, transform=from_origin(west, north, pixel, pixel), **profile,
    ) as file:  # fmt: skip
        file.write(values)
        if names:
            file.descriptions = names
    return path


def month_values(height, width, seed=0):
    """Plausible images of one month: dB float32 [4, h, w], counts uint16 [11, h, w]."""
    random = np.random.default_rng(seed)
    level = np.array([-10.0, -16.0, -10.0, -16.0])[:, None, None]
    s1 = (level + random.normal(0, 1, (4, height, width))).astype(np.float32)
    s2 = random.integers(500, 2500, (11, height, width)).astype(np.uint16)
    s2[5:8] = random.integers(2000, 2400, (3, height, width))
    s2[10] = random.integers(0, 50, (height, width))
    return s1, s2


def images_at(folder, crs, longitude, latitude, pixel=10.0, size=64):
    """A GeoTIFF of Sentinel-1 whose upper left corner lies at a place in degrees."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    s1, _ = month_values(size, size)
    return write_tif(
        folder / "S1_00.tif", s1, names=S1.bands, crs=crs, pixel=pixel, west=x, north=y
    )


def everything_at(place, images=None, **area):
    """A whole region, as a map's blocks read it."""
    source = open_region(str(place), images or ImageOptions(), AreaOptions(**area))
    with ThreadPoolExecutor(2) as pool:
        return source.read(Window(0, 0, source.grid.width, source.grid.height), pool)


def write_month(folder: Path, month: int, height: int, width: int, seed: int = 0) -> None:
    s1, s2 = month_values(height, width, seed)
    write_tif(folder / f"S1_{month:02d}.tif", s1, names=S1.bands, nodata=-9999)
    write_tif(folder / f"S2_{month:02d}.tif", s2, names=S2.bands)


@pytest.fixture(scope="session")
def region_folder(tmp_path_factory) -> Path:
    """A simulated region of 192 × 256 pixels, four months."""
    folder = tmp_path_factory.mktemp("region") / "images"
    options = RegionSimulationOptions(width=256, height=192, months=(0, 1, 9, 10), seed=3)
    write_region(SimulatedRegion(options), folder)
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """Random weights of a tiny network whose chips have 64 pixels."""
    import torch

    from biomassters.network.agb_net import AgbNet
    from biomassters.network.options import NetworkOptions
    from biomassters.network.weights import save_network

    torch.manual_seed(1)
    options = NetworkOptions(decoder_channels=(8, 8, 8, 8, 8))
    network = AgbNet(options, BandScaling.reference()).eval()
    with torch.no_grad():
        network.segmentation_head.weight.mul_(100.0)
        network.segmentation_head.bias.add_(80.0)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_network(network, path, {"chip_size": 64})
    return path
