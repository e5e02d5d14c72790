"""A test chip's label can't reach a training batch, wherever it lies and whoever lists it."""

import numpy as np
import pandas as pd
import pytest
import torch

from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.archive.layout import label_name
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.io.raster import write_raster
from biomassters.training.micro_batches import Feed
from biomassters.training.train import check_chips
from biomassters.training.validation import chips_of_folds

MARK = 12_345.0  # of every pixel of every test label, and of no other


@pytest.fixture
def packed(tmp_path, make_chip):
    """The labels lie in ``test_agbm`` and among the training labels, whose metadata list them."""
    root = tmp_path / "archive"
    chips = [make_chip(f"0000000{n}", "test" if n > 5 else "train") for n in range(8)]
    write_archive(root, chips, progress=False)
    listed = pd.read_csv(root / "train_agbm_metadata.csv", dtype=str)
    tests = [chip.chip_id for chip in chips if chip.split == "test"]
    for folder in ("test_agbm", "train_agbm"):
        (root / folder).mkdir(exist_ok=True)
        for chip in tests:
            label = np.full(chips[0].shape, MARK, np.float32)
            write_raster(root / folder / label_name(chip), label)
    more = pd.DataFrame({"filename": map(label_name, tests), "chip_id": tests})
    pd.concat([listed, more]).to_csv(root / "train_agbm_metadata.csv", index=False)
    archive = Archive.open(root)
    table, _ = inspect_archive(archive, InspectionOptions())
    store = write_store(tmp_path / "chips.zarr", UsableChips(archive, table), codec="none")
    return archive, store, tests


def test_no_batch_of_any_epoch_holds_one(packed, small_options):
    archive, store, tests = packed
    split, options = store.split("train"), small_options(batch_size=2, epochs=3)
    assert all(archive.read_chip(chip).agb_mg_per_ha is None for chip in tests)
    assert not set(tests) & set(split.chip_ids)
    folds = pd.DataFrame({"chip_id": split.chip_ids, "fold": np.arange(6) % 3})
    seen = set()
    for held_out in (None, 0, 1, 2):
        training, validation = chips_of_folds(split, folds, held_out)
        feed = Feed(split, training, validation, options, torch.device("cpu"))
        for epoch in range(options.epochs):
            for step in feed.read(epoch, 0):
                for group in step.groups:
                    for part in group.parts:
                        assert not (part.batch.agb == MARK).any()
                        seen |= set(part.batch.chip_ids)
        for batch in feed.read_validation():
            assert not (batch.agb == MARK).any()
    assert seen == set(split.chip_ids)


def test_the_test_split_of_a_store_has_nothing_to_learn_from(packed, small_options):
    _, store, _ = packed
    split = store.split("test")
    assert not split.has_agb
    with pytest.raises(BadInputError, match="no labels to learn from"):
        check_chips(split, [0, 1], [], small_options(batch_size=2, folds=()))


def test_a_store_refuses_a_test_chip_with_a_label(tmp_path, make_chip, made_chips):
    class Leaking(made_chips):
        def chip(self, chip_id):
            return make_chip(chip_id, "test", agb_mg_per_ha=np.full((32, 32), MARK, np.float32))

    with pytest.raises(AssertionError, match="has a label"):
        write_store(tmp_path / "chips.zarr", Leaking({"test": ["e5"]}))
