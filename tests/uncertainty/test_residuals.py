import numpy as np
import pytest

from biomassters.uncertainty.residuals import BIN_EDGES, ResidualCounts


def pixels(seed, count):
    generator = np.random.default_rng(seed)
    target = generator.gamma(2.0, 45.0, count)
    return np.maximum(0.75 * target + 18 + generator.normal(0, 4 + 0.2 * target), 0), target


def counted(prediction, target):
    counts = ResidualCounts((0.0, 50.0, 100.0, 150.0, 200.0))
    counts.update(prediction, target)
    return counts


def test_bins_hold_enough_pixels_and_every_pixel():
    counts = counted(*pixels(7, 30_000))
    binned = counts.joined(1000)
    assert binned.pixels.min() >= 1000
    assert binned.pixels.sum() == 30_000
    assert (np.diff(binned.edges[1:-1]) > 0).all()


def test_few_pixels_make_one_bin():
    assert len(counted(*pixels(8, 50)).joined(1000).pixels) == 1


def test_counts_merge():
    first, second = pixels(9, 500), pixels(10, 700)
    together = counted(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))
    merged = counted(*first) + counted(*second)
    np.testing.assert_array_equal(merged.counts, together.counts)
    np.testing.assert_allclose(merged.predicted, together.predicted)


def test_a_residual_is_known_to_a_tenth_near_zero_and_a_hundredth_part_far_off():
    widths = np.diff(BIN_EDGES)
    centres = (BIN_EDGES[1:] + BIN_EDGES[:-1]) / 2
    assert widths.min() == pytest.approx(0.1, rel=0.01)
    assert (widths <= 0.11 + np.abs(centres) / 100).all()
