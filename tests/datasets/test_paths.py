"""Files beside a raster: named after it, and gone when the next raster has none."""

from biomassters.datasets.paths import SideFilesDataset


def test_what_is_saved_is_loaded_and_what_is_not_is_removed(tmp_path):
    raster = tmp_path / "map.v2.tif"
    dataset = SideFilesDataset(filepath=str(raster), endings=[".qml", "_width.vrt"])
    assert not dataset.exists()
    dataset.save({".qml": "a", "_width.vrt": "b"})
    assert {path.name for path in tmp_path.iterdir()} == {"map.v2.qml", "map.v2_width.vrt"}
    assert dataset.load() == {".qml": "a", "_width.vrt": "b"}
    assert dataset.exists()
    dataset.save({".qml": "c"})
    assert dataset.load() == {".qml": "c"}
