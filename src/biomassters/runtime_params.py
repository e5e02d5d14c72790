"""``--params`` of the command line as a nested mapping, lists included.

Kedro cuts the text at every comma, so that ``training.folds=[0,1]`` falls apart. Here a value
that begins with a bracket, a brace or a quotation mark ends where that is closed.
"""

from collections.abc import Iterator
from typing import Any

import yaml
from omegaconf import OmegaConf

from biomassters.errors import BadInputError

_CLOSING = {"[": "]", "{": "}"}
_QUOTES = "\"'"


def parse_params(text: str) -> dict[str, Any]:
    """Parameters as they are given to ``--params``.

    Args:
        text: ``key=value`` pairs with commas between; a key may be dotted, a value is YAML, of
            which JSON is a part.

    Returns:
        The parameters, nested.

    Raises:
        BadInputError: A pair without key or value, a bracket that is not closed, or no YAML.
    """
    pairs = list(_pairs(text))
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist(pairs))
    except yaml.YAMLError:
        raise BadInputError(
            f"--params {text}: a value can't be read as YAML; write a list as [a,b] and put "
            "text with special characters in quotation marks."
        ) from None
    assert isinstance(parsed, dict)
    return {str(key): value for key, value in parsed.items()}


def _pairs(text: str) -> Iterator[str]:
    rest = text.strip().strip(",").strip()
    while rest:
        key, equals, value = rest.partition("=")
        if not equals or not key.strip() or "," in key:
            item = rest.split(",")[0].strip()
            raise BadInputError(
                f"--params: '{item}' is no name=value; write --params name=value,other=value, "
                "and a list as 0/1 or, in quotation marks, 'name=[0,1]'."
            )
        value = value.lstrip()
        end = _value_end(value, key.strip())
        yield f"{key.strip()}={value[:end].strip()}"
        rest = value[end:].lstrip(" ,")


def _value_end(value: str, key: str) -> int:
    """Where a value ends: at its closing bracket or quotation mark, or at the next comma."""
    if value[:1] not in (*_CLOSING, *_QUOTES):
        return (value + ",").index(",")
    expected: list[str] = []
    quote = ""
    for place, character in enumerate(value):
        if quote:
            quote = "" if character == quote else quote
        elif character in _QUOTES:
            quote = character
        elif character in _CLOSING:
            expected.append(_CLOSING[character])
        elif expected and character == expected[-1]:
            expected.pop()
        if not quote and not expected:
            return (value + ",").index(",", place)
    wanted = quote or expected[-1]
    raise BadInputError(
        f"--params: the value of '{key}', {value}, is never closed with {wanted}; put the whole "
        f"in quotation marks, as in '{key}=[0,1]'."
    )
