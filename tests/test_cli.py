"""``--params`` as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomassters.cli import parse_params
from biomassters.errors import BadInputError


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("", {}),
        ("a=1,b.c=x", {"a": 1, "b": {"c": "x"}}),
        ("folds=[0,1],crop=96", {"folds": [0, 1], "crop": 96}),
        ('views=["identity", "both"], n=2', {"views": ["identity", "both"], "n": 2}),
        ("views=[identity,both]", {"views": ["identity", "both"]}),
        ("area.bounds=[25.1,61,26,62]", {"area": {"bounds": [25.1, 61, 26, 62]}}),
        ('subset={"first": 3, "months": [0, 1]}', {"subset": {"first": 3, "months": [0, 1]}}),
        ("folds=0/1", {"folds": "0/1"}),
        ("folds=[],x=null", {"folds": [], "x": None}),
        ('root="/data/a, b",n=1', {"root": "/data/a, b", "n": 1}),
        ("root=/data/[old,n=1", {"root": "/data/[old", "n": 1}),
        ("url=https://host/x?a=b", {"url": "https://host/x?a=b"}),
    ],
)
def test_values_are_yaml_and_keep_their_commas(text, parsed):
    assert parse_params(text) == parsed


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("folds", "'folds' is no name=value"),
        ("=3", "'=3' is no name=value"),
        ("a=1,b", "'b' is no name=value"),
        ("folds=[0,1", "is never closed with ]"),
        ("folds=[0,1}", "is never closed with ]"),
        ('root="x,y', 'is never closed with "'),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text, part):
    with pytest.raises(BadInputError) as caught:
        parse_params(text)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True),
                       st.lists(st.integers(-99, 99)), min_size=1))  # fmt: skip
def test_lists_of_numbers_come_back(values):
    text = ",".join(f"{name}={value}" for name, value in values.items())
    assert parse_params(text) == values
