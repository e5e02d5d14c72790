import itertools
import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr

from biomassters.chips.store.layout import AGB_ARRAY, ARRAYS, IMAGE_ARRAYS
from biomassters.chips.store.manifest import read_manifest
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.shards import PackedArray
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError

HEIGHT, WIDTH = 24, 40
WINDOWS = [(0, 0, 24, 40), (3, 5, 8, 16), (16, 24, 8, 16), (8, 0, 16, 40)]


@pytest.fixture(scope="module", params=["lz4", "zstd", "none"])
def path(request, tmp_path_factory, made_chips):
    place = tmp_path_factory.mktemp(request.param) / "store.zarr"
    write_store(place, made_chips(), codec=request.param)
    return place


@pytest.fixture
def own_copy(path, tmp_path):
    return shutil.copytree(path, tmp_path / "store.zarr")


def read_month(split, index, month, window=WINDOWS[0]):
    top, left, height, width = window
    s1 = np.full((4, height, width), 77, np.int16)
    s2 = np.full((11, height, width), 77, np.uint16)
    split.read_month_into(index, month, {"s1": s1, "s2": s2}, top, left)
    return s1, s2


def cut(array, window):
    top, left, height, width = window
    return array[..., top : top + height, left : left + width]


@pytest.mark.parametrize("window", WINDOWS)
def test_direct_reading_equals_zarr(path, window):
    top, left, height, width = window
    for array in ARRAYS:
        manifest = read_manifest(path)
        direct = PackedArray(path, "train", array, manifest.splits["train"], manifest.codec)
        general = zarr.open_array(path / "train" / array.name, mode="r")
        for chip in range(4):
            present = ChipStore(path).split("train").present[chip]
            sensor = {"s1": 0, "s2": 1}.get(array.name)
            months = [0] if sensor is None else np.flatnonzero(present[:, sensor])
            for month in months:
                shape = (*((len(array.bands),) if array.bands else ()), height, width)
                one = np.empty(shape, array.dtype)
                direct.read_into(chip, month, one, top, left)
                where = (chip, month) if array.bands else (chip,)
                assert np.array_equal(one, cut(general[where], window))


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_is_a_piece_of_the_whole(path, made_chips, window):
    split = ChipStore(path).split("train")
    for month in range(12):
        whole = read_month(split, 1, month)
        for piece, array in zip(read_month(split, 1, month, window), whole, strict=True):
            assert np.array_equal(piece, cut(array, window))
    agb = np.empty(window[2:], np.float32)
    split.read_agb_into(1, agb, *window[:2])
    assert np.array_equal(agb, cut(made_chips().chip("b2").agb_mg_per_ha, window))


def test_absent_images_are_fill(path):
    split = ChipStore(path).split("test")
    for index in range(2):
        for month in range(12):
            s1, s2 = read_month(split, index, month)
            s1_exists, s2_exists = split.present[index, month]
            assert s1_exists != (s1 == -32768).all()
            assert s2_exists != (s2 == 0).all()
    agb = np.zeros((HEIGHT, WIDTH), np.float32)
    split.read_agb_into(0, agb)
    assert np.isnan(agb).all()
    assert not split.has_agb
    assert not (path / "test" / "agb").exists()


def test_into_memory_that_is_not_contiguous(path):
    split = ChipStore(path).split("train")
    expected = read_month(split, 0, 0)
    s1 = np.empty((4, HEIGHT, 2 * WIDTH), np.int16)[..., ::2]
    s2 = np.empty((11, HEIGHT, 2 * WIDTH), np.uint16)[..., ::2]
    split.read_month_into(0, 0, {"s1": s1, "s2": s2})
    assert np.array_equal(s1, expected[0])
    assert np.array_equal(s2, expected[1])


def test_through_a_url(path, in_memory):
    split = pickle.loads(pickle.dumps(ChipStore(in_memory(path)).split("train")))
    local = ChipStore(path).split("train")
    chip, expected = split.read_chip(2), local.read_chip(2)
    assert np.array_equal(chip.images["s1"], expected.images["s1"])
    assert np.array_equal(chip.images["s2"], expected.images["s2"])
    assert ChipStore(f"file://{path}").path == path
    with pytest.raises(BadInputError, match=r"no finished chip store at memory://.*nothing"):
        ChipStore("memory://nothing")


@pytest.mark.filterwarnings("error")
def test_xarray_reads_it_without_a_warning(path, capfd, optional):
    xarray = optional("xarray")
    for group in ("train", "test"):
        with xarray.open_zarr(path, group=group, consolidated=False) as data:
            assert "s1_band" in str(data.load())
    assert capfd.readouterr().err == ""


def test_xarray_gives_units_and_names(path, made_chips, optional):
    xarray = optional("xarray")
    source = made_chips()
    with xarray.open_zarr(path, group="train", consolidated=False) as data:
        assert data.s1.dims == ("chip", "month", "s1_band", "y", "x")
        assert data.s2.dims == ("chip", "month", "s2_band", "y", "x")
        assert (data.s1.units, data.s2.units, data.agb.units) == ("dB", "1", "Mg ha-1")
        assert data.chip_id.values.tolist() == source.names["train"]
        assert data.month_name.values[0] == "September"
        assert data.s2.dtype == np.uint16
        for index, chip_id in enumerate(source.names["train"]):
            chip = source.chip(chip_id)
            valid = chip.images["s1"] != -9999
            assert np.array_equal(np.isfinite(data.s1.values[index]), valid)
            error = np.abs(data.s1.values[index] - chip.images["s1"])[valid]
            assert error.max() <= 0.00501
            assert np.array_equal(data.s2.values[index], chip.images["s2"])
            assert np.array_equal(data.present.values[index], chip.present)
        vv = data.s1.sel(s1_band="VV_desc", month=0)
        assert vv.shape == (4, HEIGHT, WIDTH)
        assert np.array_equal(data.agb.values[3], source.chip("d4").agb_mg_per_ha)


def test_threads_share_a_split(path):
    split = ChipStore(path).split("train")
    tasks = list(itertools.product(range(4), range(12), WINDOWS))
    expected = [read_month(ChipStore(path).split("train"), *task) for task in tasks]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = pool.map(lambda task: read_month(split, *task), tasks)
            for one, other in zip(found, expected, strict=True):
                assert all(map(np.array_equal, one, other))


def test_more_chips_than_open_files(tmp_path, made_chips):
    names = [f"{number:03d}" for number in range(70)]
    source = made_chips({"train": names}, (2, 2))
    split = write_store(tmp_path / "store", source).split("train")
    for _ in range(2):
        for index, chip_id in enumerate(names):
            expected = source.chip(chip_id).images["s2"]
            assert np.array_equal(split.read_chip(index).images["s2"], expected)


def test_pickle_carries_no_pixels(path):
    split = ChipStore(path).split("train")
    read_month(split, 0, 0)
    text = pickle.dumps(split)
    assert len(text) < 1000
    again = pickle.loads(text)
    assert again.chip_ids == split.chip_ids
    assert np.array_equal(read_month(again, 0, 0)[0], read_month(split, 0, 0)[0])
    assert pickle.loads(pickle.dumps(ChipStore(path))).fingerprint == ChipStore(path).fingerprint


def test_a_handle_outlives_the_store_that_it_opened(own_copy, made_chips):
    split = ChipStore(own_copy).split("train")
    expected = read_month(split, 0, 0)
    text = pickle.dumps(split)
    write_store(own_copy, made_chips(version=1))
    assert np.array_equal(read_month(split, 0, 0)[1], expected[1])
    with pytest.raises(BadInputError, match="was replaced meanwhile"):
        pickle.loads(text)
    with pytest.raises(BadInputError, match="is missing, or the store was replaced"):
        read_month(split, 3, int(np.flatnonzero(split.present[3, :, 0])[0]))


def test_a_store_replaced_before_the_first_read(own_copy, made_chips):
    split = ChipStore(own_copy).split("train")
    write_store(own_copy, made_chips(version=1))
    with pytest.raises(BadInputError, match="was replaced meanwhile"):
        read_month(split, 0, 0)


def test_no_finished_store(tmp_path, own_copy, made_chips):
    with pytest.raises(BadInputError, match=r"no finished chip store at .*nothing.*manifest\.json"):
        ChipStore(tmp_path / "nothing")
    (own_copy / "manifest.json").unlink()
    with pytest.raises(BadInputError, match=r"no finished chip store"):
        ChipStore(own_copy)
    with pytest.raises(InterruptedError):
        write_store(tmp_path / "begun", made_chips(fail_at="b2"))
    with pytest.raises(BadInputError, match=r"begun is unfinished: .* continues where it stopped"):
        ChipStore(tmp_path / "begun")


def test_unknown_version(own_copy):
    place = own_copy / "manifest.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"version": 3}))
    with pytest.raises(BadInputError, match="format version 3"):
        ChipStore(own_copy)


def test_unknown_split(path):
    with pytest.raises(BadInputError, match="no split 'validation', only train, test"):
        ChipStore(path).split("validation")


@pytest.mark.parametrize("array", [IMAGE_ARRAYS[0], AGB_ARRAY])
@pytest.mark.parametrize("keep", [0.5, 0])
def test_a_truncated_file_is_named(own_copy, array, keep):
    place = own_copy / "train" / array.name / array.file_name(0)
    content = place.read_bytes()
    place.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(BadInputError, match=rf"{array.name}/c\.0\.0.* is damaged"):
        ChipStore(own_copy).split("train").read_chip(0)


def test_lost_metadata_are_named(own_copy):
    (own_copy / "train" / "s2" / "zarr.json").unlink()
    with pytest.raises(BadInputError, match=r"s2/zarr\.json is missing or damaged"):
        ChipStore(own_copy).split("train").read_chip(0)


def test_a_lost_file_is_named(own_copy):
    (own_copy / "train" / "s2" / IMAGE_ARRAYS[1].file_name(0)).unlink()
    with pytest.raises(BadInputError, match=r"s2/c\.0\.0\.0\.0\.0 is missing"):
        ChipStore(own_copy).split("train").read_chip(0)


@pytest.mark.parametrize(("start", "length"), [(0, 16), (16, 4), (20, 400)])
def test_garbage_in_a_chunk(own_copy, start, length):
    split = ChipStore(own_copy).split("train")
    with (own_copy / "train" / "s1" / IMAGE_ARRAYS[0].file_name(0)).open("rb+") as file:
        file.seek(start)
        file.write(b"\xff" * length)
    with pytest.raises(BadInputError, match="damaged"):
        read_month(split, 0, 0)


def test_wrong_targets(path):
    split = ChipStore(path).split("train")

    def read(index, s1, *window):
        out = {"s1": s1, "s2": np.empty((11, 8, 8), np.uint16)}
        split.read_month_into(index, 0, out, *window)

    with pytest.raises(ValueError, match="s1 can't be read into float32"):
        read(0, np.empty((4, 8, 8), np.float32))
    with pytest.raises(ValueError, match="s1 can't be read into int16"):
        read(0, np.empty((5, 8, 8), np.int16))
    with pytest.raises(ValueError, match=r"8 x 8 pixels at \(20, 0\) leaves the chip of 24 x 40"):
        read(0, np.empty((4, 8, 8), np.int16), 20, 0)
    with pytest.raises(IndexError):
        read(4, np.empty((4, 8, 8), np.int16))
