import json

import numpy as np
import pytest
from tests.regions.conftest import everything_at, month_values, write_tif

from biomassters.chips.bands import S2
from biomassters.errors import BadInputError


def item(name, when, constellation, assets, **properties):
    return {
        "type": "Feature", "id": name, "assets": assets,
        "properties": {"datetime": when, "constellation": constellation, **properties},
    }  # fmt: skip


def asset(href, **more):
    return {"href": href, "type": "image/tiff; application=geotiff", **more}


def collection(folder, *items):
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path


def test_items_with_one_file_a_band(tmp_path):
    s1, s2 = month_values(40, 50)
    for band, image in zip(S2.bands, s2, strict=True):
        write_tif(tmp_path / f"{band}.tif", image[None])
    for name, image in zip(("vv", "vh"), s1[2:], strict=True):
        write_tif(tmp_path / f"{name}.tif", image[None], nodata=-9999)
    optical = {band: asset(f"{band}.tif") for band in S2.bands}
    radar = {name: asset(f"./{name}.tif") for name in ("vv", "vh")}
    images = everything_at(
        collection(
            tmp_path,
            item("a", "2020-11-15T10:00:00Z", "sentinel-2", optical),
            item("b", "2020-11-20T05:00:00Z", "sentinel-1", radar,
                 **{"sat:orbit_state": "descending"}),
        )
    )  # fmt: skip
    assert images.months == (2,)
    np.testing.assert_array_equal(images.images["s2"][0], s2)
    assert (images.images["s1"][0, :2] == -32768).all()
    np.testing.assert_allclose(images.images["s1"][0, 2:] / 100, s1[2:], atol=0.006)


def test_two_scenes_of_a_month_are_put_together(tmp_path):
    _, s2 = month_values(40, 50)
    left, right = s2.copy(), s2.copy()
    left[:, :, 30:], right[:, :, :20] = 0, 0
    for name, values in (("left", left), ("right", right)):
        write_tif(tmp_path / f"{name}.tif", values, names=S2.bands, nodata=0)
    items = [
        item(name, "2021-07-01T00:00:00Z", "sentinel-2", {"data": asset(f"{name}.tif")})
        for name in ("left", "right")
    ]
    images = everything_at(collection(tmp_path, *items))
    assert images.months == (10,)
    np.testing.assert_array_equal(images.images["s2"][0, :10], s2[:10])


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        ([item("a", None, "sentinel-2", {})], "item a has no datetime"),
        ([item("a", "2020-09-01T00:00:00Z", "landsat", {})], "Sentinel-1 or Sentinel-2"),
        ([item("a", "2020-08-01T00:00:00Z", "sentinel-2", {}),
          item("b", "2020-09-01T00:00:00Z", "sentinel-2", {})], "of 2 years"),
        ([item("a", "2020-08-01T00:00:00Z", "sentinel-2", {})], "holds no month"),
        ([], "is no STAC item collection"),
    ],
)  # fmt: skip
def test_collections_that_cannot_be(tmp_path, items, sentence):
    with pytest.raises(BadInputError, match=sentence):
        everything_at(collection(tmp_path, *items))
