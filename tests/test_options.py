import pytest
from pydantic import Field

from biomassters.errors import BadInputError
from biomassters.options import Options


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
