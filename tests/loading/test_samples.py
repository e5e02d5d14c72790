from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomassters.loading.options import AugmentationOptions
from biomassters.loading.samples import (
    Sample,
    batches_of,
    epoch_samples,
    parts_of,
    plain_sample,
)

CHIP_IDS = [f"chip{index:03d}" for index in range(40)]
ALL_MONTHS = np.ones((40, 12), dtype=bool)


def draw(
    chips=range(40),
    *,
    seed=1,
    epoch=0,
    masks=ALL_MONTHS,
    size=(128, 128),
    crop=64,
    crops=1,
    **given,
):
    return epoch_samples(
        list(chips),
        CHIP_IDS,
        masks,
        seed=seed,
        epoch=epoch,
        options=AugmentationOptions(**given),
        size=size,
        crop=crop,
        crops_per_chip=crops,
    )


def by_chip(samples: list[Sample]) -> dict[int, Sample]:
    return {sample.chip: sample for sample in samples}


@given(
    st.permutations(range(12)), st.integers(1, 12), st.integers(0, 2**32 - 1), st.integers(0, 999)
)
def test_a_sample_depends_on_no_other_chip_nor_their_order(chips, count, seed, epoch) -> None:
    some = draw(chips[:count], seed=seed, epoch=epoch)
    everything = draw(range(12), seed=seed, epoch=epoch)
    assert some == [sample for sample in everything if sample.chip in chips[:count]]


def test_threads_change_nothing() -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: draw(), range(8)))
    assert all(run == runs[0] for run in runs)


def test_epochs_and_chips_and_seeds_differ() -> None:
    def variation(sample: Sample):
        return (sample.top, sample.left, sample.rotation_deg, sample.months)

    first, second, other = (by_chip(draw(epoch=e, seed=s)) for e, s in [(0, 1), (1, 1), (0, 2)])
    assert len({variation(sample) for sample in first.values()}) > 35
    for later in (second, other):
        same = [chip for chip in first if variation(first[chip]) == variation(later[chip])]
        assert len(same) <= 2
        assert list(first) != list(later)


def test_a_chip_is_known_by_its_name_not_its_place() -> None:
    names = CHIP_IDS[::-1]
    moved = epoch_samples(
        range(40),
        names,
        ALL_MONTHS,
        seed=1,
        epoch=0,
        options=AugmentationOptions(),
        size=(128, 128),
        crop=64,
    )
    assert [names[sample.chip] for sample in moved] == [CHIP_IDS[s.chip] for s in draw()]
    assert [sample.top for sample in moved] == [sample.top for sample in draw()]


@given(st.integers(0, 2**12 - 1).filter(bool), st.integers(0, 10_000))
def test_months_are_a_part_of_those_present_and_never_none(bits, epoch) -> None:
    masks = np.array([[bool(bits >> month & 1) for month in range(12)]])
    (sample,) = draw(
        [0], epoch=epoch, masks=masks, month_dropout_probability=1.0, month_drop_rate=0.99
    )
    assert sample.months
    assert list(sample.months) == sorted(set(sample.months))
    assert all(masks[0, month] for month in sample.months)


def test_the_last_month_left_is_any_of_them() -> None:
    lone = [
        draw([0], epoch=epoch, month_dropout_probability=1.0, month_drop_rate=0.9999)[0].months
        for epoch in range(600)
    ]
    counts = np.bincount([months[0] for months in lone if len(months) == 1], minlength=12)
    assert counts.min() > 25  # 50 expected


@given(st.integers(0, 10_000), st.sampled_from([32, 64, 96, 128]))
def test_a_crop_lies_within_the_chip(epoch, crop) -> None:
    for sample in draw(range(4), epoch=epoch, size=(128, 160), crop=crop):
        assert 0 <= sample.top <= 128 - crop
        assert 0 <= sample.left <= 160 - crop
        assert -45 <= sample.rotation_deg <= 45
        assert all(0.4 <= centre <= 0.6 for centre in sample.centre_yx)


def test_rates_are_those_of_the_options() -> None:
    samples = [sample for epoch in range(50) for sample in draw(epoch=epoch)]
    assert np.mean([sample.flip for sample in samples]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([sample.rotation_deg != 0 for sample in samples]) == pytest.approx(0.3, abs=0.05)
    assert np.mean([len(sample.months) < 12 for sample in samples]) == pytest.approx(0.25, abs=0.05)
    assert np.mean([len(sample.months) for sample in samples]) == pytest.approx(11.1, abs=0.1)
    turns = np.bincount([sample.quarter_turns for sample in samples], minlength=4) / len(samples)
    assert turns == pytest.approx([0.25] * 4, abs=0.05)
    tops = [sample.top for sample in samples]
    assert (min(tops), max(tops)) == (0, 64)


def test_brightness_draws_from_a_seed_of_its_own_and_leaves_the_others() -> None:
    plain, varied, later = draw(), draw(brightness=1.0), draw(brightness=1.0, epoch=1)
    assert [replace(sample, seed=0) for sample in varied] == plain
    assert varied == draw(brightness=1.0)
    assert len({sample.seed for sample in varied + later}) == 80


def test_switching_one_augmentation_off_leaves_the_others() -> None:
    full, unturned = draw(), draw(rotation_probability=0.0)
    assert all(sample.rotation_deg == 0 for sample in unturned)
    for left, right in zip(full, unturned, strict=True):
        assert (left.chip, left.months, left.top, left.flip) == (
            right.chip,
            right.months,
            right.top,
            right.flip,
        )


def test_everything_off_reads_the_whole_chip_as_it_is() -> None:
    samples = draw(
        crop=None,
        flip=False,
        quarter_turns=False,
        rotation_probability=0.0,
        month_dropout_probability=0.0,
    )
    assert sorted(samples, key=lambda s: s.chip) == [plain_sample(c, range(12)) for c in range(40)]


def test_a_chip_with_unequal_sides_is_only_turned_upside_down() -> None:
    samples = draw(size=(64, 96), crop=None)
    assert {sample.quarter_turns for sample in samples} == {0, 2}


def test_batches_keep_the_order_and_drop_only_an_incomplete_last() -> None:
    samples = [plain_sample(chip, [0]) for chip in range(7)]
    whole = batches_of(samples, 3, drop_last=False)
    assert [[s.chip for s in batch] for batch in whole] == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches_of(samples, 3, drop_last=True) == whole[:2]
    assert batches_of(samples[:6], 3, drop_last=True) == whole[:2]


@given(st.integers(1, 20), st.integers(1, 8))
def test_parts_are_even_and_complete(length, count) -> None:
    batch = [plain_sample(chip, [0]) for chip in range(length)]
    parts = parts_of(batch, count)
    assert [sample for part in parts for sample in part] == batch
    assert len(parts) == count
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_several_crops_of_a_chip_differ_and_the_first_is_what_it_was_alone() -> None:
    alone, several = draw(range(5)), draw(range(5), crops=3)
    assert len(several) == 15
    assert set(alone) <= set(several)
    for chip in range(5):
        of_chip = [sample for sample in several if sample.chip == chip]
        assert len({(sample.top, sample.left) for sample in of_chip}) == 3
