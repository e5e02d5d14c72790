import time

import pandas as pd

from biomassters.chips.archive.files import ArchiveFiles
from biomassters.chips.archive.metadata import read_features
from biomassters.chips.chip_inventory import chip_inventory
from biomassters.chips.folds import FoldOptions, make_folds


def test_by_hand():
    rows = [("b", "test", "s1", 3), ("a", "train", "s2", 1), ("a", "train", "s2", 0)]
    rows += [("a", "train", "s1", 1)]
    features = pd.DataFrame(rows, columns=["chip_id", "split", "sensor", "month"])
    expected = [["a", "train", [1], [0, 1], 2], ["b", "test", [3], [], 1]]
    assert chip_inventory(features).to_numpy().tolist() == expected


def test_the_whole_dataset(sample_root, tmp_path):
    """252,426 files to a table of chips and the reference's folds, in seconds."""
    listed = pd.read_parquet(sample_root / "features_inventory.parquet")
    listed.to_csv(tmp_path / "features_metadata.csv", index=False)
    started = time.process_time()
    features = read_features(ArchiveFiles.find(tmp_path))
    table = chip_inventory(features)
    seconds = time.process_time() - started
    assert len(features) == 252_426
    train = features[features["split"] == "train"]
    assert (train["sensor"] == "s1").sum() == 104_268
    assert ((train["sensor"] == "s2") & (train["month"] == 3)).sum() == 1_251
    assert table["split"].value_counts().to_dict() == {"train": 8_689, "test": 2_773}
    assert table["s1_months"].map(len).eq(12).all()
    assert table["s2_months"].map(len).median() == 11
    usable = table.assign(usable=True, agb_mean_mg_per_ha=0.0)
    folds = make_folds(usable, FoldOptions(count=10))
    assert folds["fold"].value_counts().sort_index().tolist() == [869] * 9 + [868]
    assert seconds < 60  # 2 on a quiet machine, see benchmarks
