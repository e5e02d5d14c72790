"""Labels of the test chips out of the tar that was published after the challenge."""

import tarfile

import numpy as np
import pytest

from biomassters.acquisition.acquire import acquire, require_complete
from biomassters.errors import BadInputError
from biomassters.io.raster import encode_raster, read_raster

TEST_CHIPS = ("00000004", "00000005")


def label(number, shape=(16, 16), dtype=np.float32):
    return np.full(shape, 100 + number, dtype)


def pack(folder, mode, contents):
    """A tar as it is re-hosted: the labels in a folder."""
    path = folder / ("test_agbm.tar" + (".gz" if mode == "w:gz" else ""))
    (folder / "loose").mkdir(exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in contents.items():
            file = folder / "loose" / name
            file.write_bytes(content)
            tar.add(file, f"test_agbm/{name}")
    return path


def labels_of(chips):
    return {f"{chip}_agbm.tif": encode_raster(label(n)) for n, chip in enumerate(chips)}


def bring(target, options, path):
    made = options(tar_parts=[str(path)], subset={"sensors": ["test_label"]})
    return acquire(target, made)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_of_test_labels(tmp_path, target, options, mode):
    """Not those of the training chips, though their names are alike."""
    contents = labels_of([*TEST_CHIPS, "00000001"])
    path = pack(tmp_path, mode, contents)
    table = bring(target, options, path)
    require_complete(table)
    assert table["filename"].tolist() == [f"{chip}_agbm.tif" for chip in TEST_CHIPS]
    for number, chip in enumerate(TEST_CHIPS):
        found, _ = read_raster(target / "test_agbm" / f"{chip}_agbm.tif")
        np.testing.assert_array_equal(found[0], label(number))
    assert not (target / "train_agbm").exists()
    assert set(bring(target, options, path)["status"]) == {"complete"}


def test_a_label_that_was_spoilt_is_fetched_again(tmp_path, target, options):
    path = pack(tmp_path, "w", labels_of(TEST_CHIPS))
    bring(target, options, path)
    spoilt = target / "test_agbm" / "00000004_agbm.tif"
    spoilt.write_bytes(spoilt.read_bytes()[:-30])
    table = bring(target, options, path)
    assert dict(zip(table["chip_id"], table["status"], strict=True)) == {
        "00000004": "repaired", "00000005": "complete",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", "not recognized"),
        (encode_raster(label(0, (2, 16, 16))), "has 2 bands, not 1"),
        (encode_raster(label(0, dtype=np.float64)), "holds float64 instead of float32"),
        (encode_raster(-label(0)), "negative pixel"),
        (encode_raster(label(0) * 5000), "more than any forest"),
    ],
)
def test_what_is_no_label_is_not_taken(tmp_path, target, options, content, reason):
    contents = labels_of(TEST_CHIPS) | {"00000005_agbm.tif": content}
    table = bring(target, options, pack(tmp_path, "w", contents)).set_index("chip_id")
    assert table["status"].to_dict() == {"00000004": "fetched", "00000005": "failed"}
    assert reason in table.loc["00000005", "reason"]
    assert not (target / "test_agbm" / "00000005_agbm.tif").exists()


def test_labels_of_other_chips_are_missing(tmp_path, target, options):
    table = bring(target, options, pack(tmp_path, "w", labels_of(["0000000f"])))
    assert set(table["status"]) == {"missing"}
    with pytest.raises(BadInputError, match="2 of 2 files are not right"):
        require_complete(table)
