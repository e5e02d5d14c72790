from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.model_selection import KFold

from biomassters.chips.folds import FoldOptions, make_folds


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
