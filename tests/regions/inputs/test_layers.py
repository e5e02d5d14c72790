import pytest

from biomassters.chips.bands import S1, S2
from biomassters.errors import BadInputError
from biomassters.imagery.asset_names import canonical_name
from biomassters.regions.inputs.layers import match_bands


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("VV_asc", "VV_asc"), ("vh descending", "VH_desc"), ("B02", "B2"), ("b8a", "B8A"),
        ("B11", "B11"), ("nir", "B8"), ("SCL", "SCL"), ("CLP", "CLP"), ("B1", None),
        ("VV", None), ("something", None),
    ],
)  # fmt: skip
def test_names(text, name):
    assert canonical_name(text) == name


def test_orbit_of_the_file():
    assert canonical_name("vv", "desc") == "VV_desc"


def test_every_name_of_the_table_is_its_own():
    for name in (*S1.bands, *S2.bands):
        assert canonical_name(name) == name


def test_descriptions_count_whatever_their_order():
    found = tuple(reversed(S2.bands))
    assert match_bands("f", "s2", found, ())["B2"] == 11


def test_stated_order_where_the_file_is_silent():
    assert match_bands("f", "s1", ("", ""), ("VH_asc", "VV_asc")) == {"VH_asc": 1, "VV_asc": 2}


@pytest.mark.parametrize(
    ("found", "stated", "sentence"),
    [
        (
            ("", ""),
            S1.bands,
            "has 2 bands without a known description, but mapping.images.s1_bands",
        ),
        (("", ""), ("VV_asc", "XX"), "there is no band 'XX'"),
        (("VV_asc", "vv asc"), (), "holds band VV_asc twice"),
    ],
)
def test_refusals(found, stated, sentence):
    with pytest.raises(BadInputError, match=sentence):
        match_bands("f.tif", "s1", found, stated)
