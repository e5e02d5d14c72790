import pytest

from biomassters.chips.provenance import (
    Provenance,
    check_same_weights,
    training_words,
    warn_of_simulated_weights,
)
from biomassters.errors import BadInputError

CALIBRATED = Provenance(
    views=("identity", "both"), clip_negative=True, precision="float32", networks=1, chip_pixels=96
)


def test_through_json():
    assert Provenance.from_dict(CALIBRATED.to_dict() | {"later": 1}) == CALIBRATED
    assert Provenance.from_dict(None) == Provenance()


@pytest.mark.parametrize(
    ("changed", "chosen", "found"),
    [
        ({"views": ("both", "identity")}, "", ""),
        ({"views": ("identity",)}, "views identity instead of identity, both", ""),
        ({"clip_negative": False}, "clip_negative false", ""),
        ({"precision": "bfloat16"}, "", "precision bfloat16 instead of float32"),
        (
            {"networks": 5, "chip_pixels": 256},
            "",
            "networks averaged 5 instead of 1, pixels a chip 256 instead of 96",
        ),
        ({"views": None, "networks": None}, "", ""),
    ],
)
def test_made_otherwise(changed, chosen, found):
    used = Provenance.from_dict(CALIBRATED.to_dict() | changed)
    assert used.chosen_otherwise(CALIBRATED) == chosen
    assert used.found_otherwise(CALIBRATED) == found


def test_other_weights_are_refused_with_the_remedy():
    check_same_weights("maps", "aa", "w", "aa", "inference")
    with pytest.raises(BadInputError, match=r"other weights \(bb…\) than w.*'--pipelines inf"):
        check_same_weights("maps", "bb", "w", "aa", "inference")
    with pytest.raises(BadInputError, match="does not say which weights made it"):
        check_same_weights("maps", None, "w", "aa", "inference")


def test_words():
    trained_on = {"simulated": True, "dataset": "simulated", "chips": 160}
    assert training_words(trained_on) == "a simulated forest (simulated, 160 chips)"
    assert training_words(trained_on | {"simulated": False}) == "simulated, 160 chips"
    assert training_words(None) == "unknown data"


@pytest.mark.parametrize(
    ("trained", "images", "warned"),
    [(True, False, True), (True, True, False), (False, False, False), (None, False, False)],
)
def test_simulated_weights_on_real_images(trained, images, warned, caplog):
    warn_of_simulated_weights("w", {"simulated": trained}, images, "/data/real")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
