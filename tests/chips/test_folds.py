from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.model_selection import KFold

from biomassters.chips.folds import (
    FoldOptions,
    blocks_of,
    chip_places,
    folds_of_blocks,
    make_blocks,
    make_folds,
    outside_buffers,
)
from biomassters.errors import BadInputError


def a_table(count: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "chip_id": [f"{number:08x}" for number in range(count)],
            "split": "train",
            "agb_mean_mg_per_ha": random.gamma(1, 60, count),
            "usable": True,
        }
    )


def test_reference() -> None:
    table = a_table(23)
    folds = make_folds(table.sample(frac=1, random_state=1), FoldOptions(count=10))
    assert folds["chip_id"].tolist() == table["chip_id"].tolist()
    splitter = KFold(10, shuffle=True, random_state=314159)
    for number, (_, held_out) in enumerate(splitter.split(range(23))):
        assert np.flatnonzero(folds["fold"] == number).tolist() == held_out.tolist()


def test_reference_folds_of_the_whole_archive(sample_root: Path) -> None:
    listed = pd.read_csv(sample_root / "train_agbm_metadata.csv", dtype=str)
    table = a_table(len(listed)).assign(chip_id=listed["chip_id"])
    sizes = make_folds(table, FoldOptions(count=10))["fold"].value_counts().sort_index()
    assert sizes.tolist() == [869] * 9 + [868]


def test_a_missing_chip_moves_no_other(sample_root: Path) -> None:
    inventory = pd.read_parquet(sample_root / "features_inventory.parquet")
    chips = sorted(inventory.loc[inventory["split"] == "train", "chip_id"].unique())
    table, options = a_table(len(chips)).assign(chip_id=chips), FoldOptions(count=10)
    whole = make_folds(table, options)
    missing = table.assign(usable=table["chip_id"] != chips[1234])
    assert make_folds(missing, options).equals(
        whole[whole["chip_id"] != chips[1234]].reset_index(drop=True)
    )
    assert len(whole) == 8689
    assert (whole["fold"] == 0).sum() == 869


@pytest.mark.parametrize("method", ["reference", "stratified"])
def test_unusable_chips_drop_out_of_fixed_folds(method: str) -> None:
    table, options = a_table(40), FoldOptions(method=method)
    whole = make_folds(table, options)
    table.loc[[3, 17, 30], "usable"] = False
    assert make_folds(table, options).equals(whole.drop([3, 17, 30]).reset_index(drop=True))


def test_a_missing_label_moves_no_reference_fold() -> None:
    table = a_table(40)
    whole = make_folds(table, FoldOptions())
    table.loc[5, ["agb_mean_mg_per_ha", "usable"]] = np.nan, False
    assert make_folds(table, FoldOptions()).equals(whole.drop(5).reset_index(drop=True))


@settings(deadline=None)
@given(st.integers(5, 60), st.integers(2, 5), st.sampled_from(["reference", "stratified"]))
def test_a_partition_of_even_parts(count: int, folds: int, method: str) -> None:
    table = make_folds(a_table(count), FoldOptions(count=folds, method=method))
    sizes = table["fold"].value_counts()
    assert sorted(sizes.index) == list(range(folds))
    assert sizes.max() - sizes.min() <= 1
    assert table["chip_id"].is_unique


def test_stratified_folds_are_alike() -> None:
    table = a_table(200)
    means = {}
    for method in ("reference", "stratified"):
        folds = make_folds(table, FoldOptions(method=method)).merge(table)
        means[method] = folds.groupby("fold")["agb_mean_mg_per_ha"].mean().std()
    assert means["stratified"] < means["reference"] / 4


def test_each_stratum_meets_every_fold() -> None:
    table = a_table(6).assign(agb_mean_mg_per_ha=[1, 2, 3, 10, 20, 30])
    fold = make_folds(table, FoldOptions(count=3, method="stratified"))["fold"].tolist()
    assert sorted(fold[:3]) == sorted(fold[3:]) == [0, 1, 2]


@pytest.mark.parametrize("method", ["reference", "stratified"])
def test_seed(method: str) -> None:
    first, again = (make_folds(a_table(40), FoldOptions(method=method)) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(make_folds(a_table(40), FoldOptions(method=method, seed=1)))


def test_only_usable_training_chips() -> None:
    table = a_table(12)
    table.loc[0, "usable"] = False
    table.loc[1, "split"] = "test"
    assert make_folds(table, FoldOptions())["chip_id"].tolist() == table["chip_id"][2:].tolist()


@pytest.mark.parametrize("count", [0, 1, 4])
def test_fewer_chips_than_folds(count: int, caplog: pytest.LogCaptureFixture) -> None:
    folds = make_folds(a_table(count), FoldOptions())
    assert folds["fold"].tolist() == list(range(count))
    assert [record.getMessage() for record in caplog.records] == [
        f"Fewer labelled chips ({count}) than folds (5): each is a fold of its own."
    ]


@pytest.mark.parametrize("wrong", [{"count": 1}, {"method": "random"}, {"folds": 5}, {"seed": -1}])
def test_bad_options(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FoldOptions(**wrong)


SIDE = 64  # pixels: a chip of 640 m


def chips_at(corners, crs="EPSG:3067", pixel=10.0, side=SIDE):
    """Chips by their upper left corners, in map units."""
    return pd.DataFrame(
        {
            "chip_id": [f"c{number:04d}" for number in range(len(corners))],
            "split": "train",
            "agb_mean_mg_per_ha": 50.0,
            "usable": True,
            "height": side,
            "width": side,
            "crs": crs,
            "transform": [[pixel, 0.0, float(x), 0.0, -pixel, float(y)] for x, y in corners],
        }
    )


def lattice(rows, columns, step=640.0, west=400_000.0, north=6_900_000.0):
    return chips_at(
        [(west + c * step, north - r * step) for r in range(rows) for c in range(columns)]
    )


def gaps(places):
    """Distance between the edges of any two chips, [N, N], metres."""
    low = np.maximum(places[:, None, :2], places[None, :, :2])
    high = np.minimum(places[:, None, 2:], places[None, :, 2:])
    return np.hypot(*np.moveaxis(np.maximum(low - high, 0), -1, 0))


def test_places_are_metres_whatever_the_unit():
    table = chips_at([(400_000, 6_900_000), (401_000, 6_900_000)])
    first, second = chip_places(table)
    assert (first[2:] - first[:2]).tolist() == [640, 640]
    assert second[0] - first[0] == 1000
    assert first[3] == 6_900_000
    feet = 10 / 0.3048
    in_feet = chip_places(chips_at([(0, 0), (1000 / 0.3048, 0)], crs="EPSG:2222", pixel=feet))
    assert (in_feet[1] - in_feet[0])[0] == pytest.approx(1000)
    assert (in_feet[0, 2:] - in_feet[0, :2]).tolist() == pytest.approx([640, 640])


def test_chips_of_two_zones_lie_on_one_plane():
    """The same place in two coordinate systems, and one 5 km east of it."""
    from pyproj import Transformer

    x, y = Transformer.from_crs(3067, 32636, always_xy=True).transform(600_000, 6_900_000)
    here = chips_at([(600_000, 6_900_000), (605_000, 6_900_000)])
    there = chips_at([(x, y)], crs="EPSG:32636")
    places = chip_places(pd.concat([here, there], ignore_index=True))
    assert np.abs(places[2] - places[0]).max() < 60  # turned by some degrees
    assert places[1, 0] - places[0, 0] == 5000


def test_squares_are_equal_parts_of_the_land():
    """12.8 km by 6.4 km in squares of about 3 km: 4 by 2, of 5 by 5 chips each."""
    blocks = make_blocks(chip_places(lattice(10, 20)), 3000, "squares", 0).reshape(10, 20)
    assert np.bincount(blocks.ravel()).tolist() == [25] * 8
    assert len(np.unique(blocks[:5, :5])) == 1
    assert blocks[0, 4] != blocks[0, 5]
    assert blocks[4, 0] != blocks[5, 0]


def test_clusters_follow_the_land():
    """Two forests, far apart, are never one block."""
    table = pd.concat([lattice(4, 4), lattice(4, 4, west=430_000.0)], ignore_index=True)
    blocks = make_blocks(chip_places(table), 20_000, "kmeans", 0)
    assert len(np.unique(blocks)) == 2
    assert len(np.unique(blocks[:16])) == len(np.unique(blocks[16:])) == 1


def test_folds_are_whole_blocks_and_even():
    blocks = np.repeat(np.arange(12), [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 8])
    folds = folds_of_blocks(blocks, 3, 7)
    assert all(len(np.unique(folds[blocks == block])) == 1 for block in range(12))
    assert sorted(np.bincount(folds)) == [10, 10, 10]
    assert (folds == folds_of_blocks(blocks, 3, 7)).all()
    assert (folds != folds_of_blocks(blocks, 3, 8)).any()


@given(
    rows=st.integers(2, 9),
    columns=st.integers(2, 9),
    buffer_m=st.sampled_from([0.0, 100.0, 640.0, 1000.0]),
    side_m=st.sampled_from([700.0, 1500.0, 3000.0]),
    shape=st.sampled_from(["squares", "kmeans"]),
    step=st.sampled_from([320.0, 640.0, 700.0, 1400.0]),
    seed=st.integers(0, 2**31),
)
def test_a_chips_buffer_is_never_in_another_fold(
    rows, columns, buffer_m, side_m, shape, step, seed
):
    """Also of chips that overlap, touch, or lie apart, on a shaken lattice."""
    random = np.random.default_rng(seed)
    table = lattice(rows, columns, step)
    table["transform"] = [
        [a, b, c + random.uniform(0, 50), d, e, f] for a, b, c, d, e, f in table["transform"]
    ]
    places = chip_places(table)
    blocks = make_blocks(places, side_m, shape, seed % 2**31)
    folds = folds_of_blocks(blocks, 3, seed)
    kept = outside_buffers(places, folds, buffer_m)
    apart = folds[kept][:, None] != folds[kept][None]
    assert (gaps(places[kept])[apart] >= buffer_m - 1e-3).all()
    low = np.maximum(places[kept][:, None, :2], places[kept][None, :, :2])
    high = np.minimum(places[kept][:, None, 2:], places[kept][None, :, 2:])
    assert not ((high - low > 2e-3).all(axis=-1) & apart).any()  # no two folds share a pixel
    assert kept.any()
    # Nothing is given up without need: a chip in no fold is too close to one that was kept.
    if buffer_m > 0:
        for chip in np.flatnonzero(~kept):
            other = kept & (folds != folds[chip])
            assert (gaps(places)[chip][other] < buffer_m).any()


def test_the_buffer_between_two_halves_worked_by_hand():
    """Ten chips in a row, halves in two folds: of the four within 700 m, one side goes."""
    places = chip_places(lattice(1, 10))
    folds = np.repeat([0, 1], 5)
    assert outside_buffers(places, folds, 0.0).all()
    assert (~outside_buffers(places, folds, 500.0)).sum() == 1
    assert (~outside_buffers(places, folds, 700.0)).sum() == 2
    assert outside_buffers(places, np.zeros(10, np.int64), 700.0).all()


def test_folds_of_blocks_name_their_block():
    table = lattice(10, 20)
    table.loc[3, "usable"] = False
    options = FoldOptions(method="blocks", count=4, side_km=3, buffer_km=0.3)
    folds = make_folds(table, options)
    assert list(folds.columns) == ["chip_id", "fold", "block"]
    assert set(folds["fold"]) == {0, 1, 2, 3}
    assert "c0003" not in set(folds["chip_id"])
    assert (folds.groupby("block")["fold"].nunique() == 1).all()
    assert 100 < len(folds) < 199
    assert blocks_of(folds) == dict(zip(folds["chip_id"], folds["block"], strict=True))
    whole = make_folds(table.assign(usable=True), options)
    assert whole[whole["chip_id"] != "c0003"].reset_index(drop=True).equals(folds)
    assert blocks_of(make_folds(table, FoldOptions())) == {}


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        ({}, {"side_km": 50}, r"blocks of 50 km cut the land, 12.8 x 6.4 km, into 1, and 5 folds"),
        ({"crs": ""}, {}, r"chip c0000 doesn't say where it lies \(200 of 200 chips\)"),
        ({}, {"side_km": 3, "buffer_km": 6}, r"buffer_km: 6 km leave no chip in fold"),
    ],
)
def test_what_makes_no_folds_is_refused(changes, options, sentence):
    with pytest.raises(BadInputError, match=sentence):
        make_folds(lattice(10, 20).assign(**changes), FoldOptions(method="blocks", **options))


def test_a_table_of_before_there_were_places_is_refused():
    table = lattice(2, 2).drop(columns=["crs", "transform"])
    with pytest.raises(BadInputError, match="doesn't say where it lies"):
        make_folds(table, FoldOptions(method="blocks"))


def test_the_side_that_is_offered_gives_enough_blocks():
    with pytest.raises(BadInputError) as caught:
        make_folds(lattice(10, 20), FoldOptions(method="blocks", side_km=50))
    offered = float(str(caught.value).partition("such as ")[2].partition(",")[0])
    make_folds(lattice(10, 20), FoldOptions(method="blocks", side_km=offered, buffer_km=0.1))
