"""A frozen dataclass of numbers and tuples that goes to JSON and comes back as it was."""

from collections.abc import Mapping
from typing import Any, Self


class JsonModel:
    """To and from JSON, for dataclasses."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What ``to_dict`` gave, as JSON has it; names that are not known are left out."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            if name in cls.__dataclass_fields__  # type: ignore[attr-defined]
        }
        return cls(**known)
