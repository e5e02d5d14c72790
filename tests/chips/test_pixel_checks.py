"""Units and bands of chips, by what their values look like."""

from dataclasses import replace

import numpy as np
import pytest

from biomassters.chips.bands import S1, S2
from biomassters.chips.chip import Chip
from biomassters.chips.pixel_checks import Fault, check_chip, image_unit_fault
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import Georeference


def year(size=32, seed=0):
    """A chip with a plausible image of both sensors in two months."""
    random = np.random.default_rng(seed)
    present = np.zeros((12, 2), bool)
    present[[0, 9]] = True
    s1 = np.full((12, 4, size, size), -9999, np.float32)
    level = np.array([-10.0, -16.0, -10.0, -16.0])[:, None, None]
    s1[[0, 9]] = level + random.normal(0, 1, (2, 4, size, size))
    s2 = np.zeros((12, 11, size, size), np.uint16)
    s2[[0, 9]] = random.integers(800, 1500, (2, 11, size, size))
    s2[[0, 9], 10] = 20
    return Chip("a1", "test", {"s1": s1, "s2": s2}, present)


def known(chip, factor):
    s1 = chip.images["s1"].copy()
    s1[chip.present[:, 0]] *= factor
    return s1


def in_power(chip):
    s1 = chip.images["s1"].copy()
    s1[chip.present[:, 0]] = 10 ** (s1[chip.present[:, 0]] / 10)
    return s1


def beyond(chip):
    s1 = chip.images["s1"]
    return np.where(s1 > -100, np.float32(1e30), s1)


def test_a_chip_as_it_should_be():
    check_chip(year(), 10.0, warn=True)


@pytest.mark.parametrize("blurred", [0.002, 0.01, 0.2])
def test_nodata_and_what_resampling_made_of_it_are_no_unit(blurred):
    chip = year()
    some = np.random.default_rng(1).random(chip.images["s1"].shape) < blurred
    chip.images["s1"][some] = np.where(chip.images["s1"][some] < -100, -9999, -9998.99)
    chip.images["s1"][:, :, :3] = -4000
    check_chip(chip, 10.0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda chip: {"s1": known(chip, 100)},
         r"Chip a1: S1 holds values of -1\d\d\d.* to -.*, expected backscatter in dB: divide"),
        (lambda chip: {"s1": in_power(chip)},
         r"S1 looks like linear power, expected dB: convert it by 10 log10"),
        (lambda chip: {"s1": beyond(chip)},
         r"S1 holds values of 1e\+30 to 1e\+30, expected backscatter in dB: convert it"),
        (lambda chip: {"s1": chip.images["s1"][:, [1, 0, 3, 2]]}, r"VV and VH look swapped"),
        (lambda chip: {"s2": np.minimum(chip.images["s2"], 1)},
         r"S2 looks like reflectance 0-1, expected × 10,000: multiply by 10,000"),
        (lambda chip: {"s2": np.full_like(chip.images["s2"], 65535)}, r"S2 holds 65535 everywhere"),
        (lambda chip: {"s2": chip.images["s2"][:, [10, *range(10)]]},
         r"in CLP, expected 0 to 100 or 255"),
    ],
)  # fmt: skip
def test_chips_in_other_units(change, sentence):
    chip = year()
    with pytest.raises(BadInputError, match=sentence):
        check_chip(replace(chip, images={**chip.images, **change(chip)}), 10.0)


def test_a_chip_that_clouds_hide_all_year_is_named(caplog):
    chip = year()
    chip.images["s2"][:, 10] = 80
    check_chip(chip, 10.0, warn=True)
    assert "Chip a1 has no cloud-free pixel in any month" in caplog.text
    caplog.clear()
    chip.images["s2"][9, 10, 5, 5] = 50
    check_chip(chip, 10.0, warn=True)
    assert caplog.text == ""


def test_pixels_of_another_size_on_the_ground():
    def at(crs):
        return replace(year(), georeference=Georeference(crs, (10, 0, 4e5, 0, -10, 6.9e6)))

    check_chip(at("EPSG:3067"), 10.0)
    check_chip(at('LOCAL_CS["a plot",UNIT["metre",1]]'), 10.0)
    with pytest.raises(BadInputError, match=r"Chip a1 has pixels of 6\.\d\d x 6\.\d\d m on the gr"):
        check_chip(at("EPSG:3857"), 10.0)


def test_too_few_pixels_say_nothing():
    assert image_unit_fault("s1", {name: np.full(9, -3000.0) for name in S1.bands}) is None
    assert image_unit_fault("s2", {name: np.full(4, 0.1) for name in S2.bands[:-1]}) is None
    many = image_unit_fault("s2", {name: np.full(60, 0.1) for name in S2.bands[:-1]})
    assert many == Fault("looks like reflectance 0-1, expected × 10,000", "multiply by 10,000")
