"""Models of numbers and tuples, to JSON and back."""

from collections.abc import Mapping
from typing import Any, Self


class PlainValues:
    """Base of dataclasses whose fields are numbers, texts and tuples of them."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What ``to_dict`` gave."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**fields)
