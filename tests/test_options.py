import pytest
from pydantic import Field

from biomassters.errors import BadInputError
from biomassters.options import Options, Places


class Inner(Options):
    rate: float = Field(1.0, gt=0)


class Outer(Options):
    name: str
    inner: Inner = Inner()


def test_values_are_taken():
    assert Outer.model_validate({"name": "a", "inner": {"rate": 2}}).inner.rate == 2.0


def test_unknown_names_are_refused():
    with pytest.raises(BadInputError, match=r"^inner\.rat: there is no such option"):
        Outer.model_validate({"name": "a", "inner": {"rat": 2}})


def test_every_wrong_value_is_named_with_what_was_given():
    with pytest.raises(BadInputError) as caught:
        Outer.model_validate({"inner": {"rate": -1}})
    assert "name: Field required" in str(caught.value)
    assert "inner.rate: Input should be greater than 0 (got -1)" in str(caught.value)


def test_options_are_frozen():
    options = Inner()
    with pytest.raises(ValueError, match="frozen"):
        options.rate = 2.0


class Lists(Options):
    folds: tuple[int, ...] = (0,)
    bounds: tuple[float, float, float, float] | None = None
    names: tuple[str, ...] = ()
    files: Places = ()
    title: str = ""


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"folds": "0/1"}, {"folds": (0, 1)}),
        ({"folds": 3}, {"folds": (3,)}),
        ({"folds": []}, {"folds": ()}),
        ({"folds": [2, 4]}, {"folds": (2, 4)}),
        ({"bounds": "25.1/61/26/-62.5"}, {"bounds": (25.1, 61.0, 26.0, -62.5)}),
        ({"bounds": None}, {"bounds": None}),
        ({"names": "B2/ B3"}, {"names": ("B2", "B3")}),
        ({"names": "B2"}, {"names": ("B2",)}),
        ({"files": "data/a.tar"}, {"files": ("data/a.tar",)}),
        ({"files": ["s3://x/a", "/b"]}, {"files": ("s3://x/a", "/b")}),
        ({"title": "a/b"}, {"title": "a/b"}),
    ],
)
def test_text_with_slashes_is_a_list_where_a_list_is_expected(given, taken):
    options = Lists.model_validate(given)
    assert {name: getattr(options, name) for name in taken} == taken


@pytest.mark.parametrize("wrong", [{"folds": "0/x"}, {"folds": True}, {"bounds": "1/2/3"}])
def test_a_wrong_list_is_refused_by_name(wrong):
    with pytest.raises(BadInputError, match=next(iter(wrong))):
        Lists.model_validate(wrong)
