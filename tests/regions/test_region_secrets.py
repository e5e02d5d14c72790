"""Images at addresses with logins and signatures: nothing that is left of a map repeats them."""

import json

import pytest
import rasterio

from biomassters.inference.options import InferenceOptions
from biomassters.network.weights import load_network, save_network
from biomassters.regions.inputs.source import open_region
from biomassters.regions.map_side_files import describe_map
from biomassters.regions.mapping import WeightsFiles, finish_map, plan_region, predict_blocks
from biomassters.regions.options import AreaOptions, ImageOptions, MappingOptions
from biomassters.regions.visuals import make_picture, render_page
from biomassters.workers.options import DaskOptions

from .conftest import write_month

ONE_VIEW = InferenceOptions(views=("identity",), batch_size=3, device="cpu")


@pytest.fixture
def signed_items(tmp_path, range_server):
    """A STAC collection of one month whose images have a signature in their addresses."""
    images = tmp_path / "served"
    images.mkdir()
    write_month(images, 0, 64, 64)
    server = range_server(images)
    items = [
        {
            "type": "Feature",
            "id": f"{sensor}-month",
            "properties": {"datetime": "2020-09-10T10:00:00Z", "constellation": sensor},
            "assets": {
                "image": {
                    "href": f"http://me:PLANTED-1@{server.host}/{file}?sig=PLANTED-2",
                    "type": "image/tiff",
                }
            },
        }
        for sensor, file in (("sentinel-1", "S1_00.tif"), ("sentinel-2", "S2_00.tif"))
    ]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path, server.asked


def secret_weights(weights, tmp_path):
    """Weights whose description tells an address with secrets as the data's name."""
    path = tmp_path / "secret.safetensors"
    told = {"dataset": "s3://KEY:PLANTED-3@box/x?sig=PLANTED-4", "chips": 3, "simulated": False}
    save_network(load_network(weights), path, {"chip_size": 64, "trained_on": told})
    return WeightsFiles.of((str(path),), "the weights")


def everything_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_that_a_map_leaves_holds_a_secret(signed_items, weights, tmp_path):
    items, asked = signed_items
    source = open_region(str(items), ImageOptions(check_ranges=False), AreaOptions())
    files = secret_weights(weights, tmp_path)
    out = tmp_path / "out"
    scratch = out / "scratch"
    scratch.mkdir(parents=True)
    plan = plan_region(source, files, out / "agb.tif", MappingOptions(), ONE_VIEW)
    predict_blocks(plan, scratch, DaskOptions(), progress=False)
    assert any("sig=PLANTED-2" in path for path in asked)  # it was needed
    left = everything_in(scratch)
    assert any(b"S1_00.tif?***" in content for content in left.values())
    assert not [path for path, content in left.items() if b"PLANTED" in content]
    summary = finish_map(plan, scratch, None)
    (out / "summary.json").write_text(json.dumps(summary))
    (out / "item.json").write_text(json.dumps(describe_map(plan.path, source.grid, summary, 2020)))
    page = render_page(make_picture(plan.path, source), summary, summary["title"])
    (out / "page.html").write_text(page)
    for name in ("summary.json", "item.json", "page.html"):
        assert "s3://***@box/x?***" in (out / name).read_text(), name
    with rasterio.open(plan.path) as file:
        assert file.tags()["trained_on"] == "s3://***@box/x?***, 3 chips"
    assert not [path for path, content in everything_in(out).items() if b"PLANTED" in content]


def test_an_item_hides_what_its_summary_tells(signed_items, tmp_path):
    grid = open_region(str(signed_items[0]), ImageOptions(check_ranges=False), AreaOptions()).grid
    summary = {"caveat": "", "weights_trained_on": {"dataset": "https://u:PLANTED@host/x"}}
    assert "PLANTED" not in json.dumps(describe_map(tmp_path / "agb.tif", grid, summary, 2020))
