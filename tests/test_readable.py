import pytest

from biomassters.readable import hint, listed, readable_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_345, "12.3 kB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (2_300_000, "2.3 MB"),
        (270_000_000_000, "270 GB"),
        (3e15, "3000 TB"),
    ],
)
def test_bytes_are_said_in_a_unit_that_shows_them(count, text):
    assert readable_bytes(count) == text


def test_names_are_listed_as_in_a_sentence():
    assert listed([]) == "none"
    assert listed(["a"]) == "a"
    assert listed("abc") == "a, b and c"


def test_a_name_like_no_other_gets_those_to_choose_from():
    assert hint("trainng", {"training", "reporting"}) == "did you mean 'training'?"
    assert hint("zzz", {"training", "reporting"}) == "choose from reporting and training."
    many = {f"name_{number:02d}" for number in range(40)}
    assert hint("zzz", many).endswith("name_14 and 25 more.")
