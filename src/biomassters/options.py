"""The base of every options model: frozen, closed to unknown names, plain in its complaints."""

from typing import Annotated, Any, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core.core_schema import ValidationInfo

from biomassters.errors import BadInputError

LIST_SEPARATOR = "/"

_PLACES = "places"
Places = Annotated[tuple[str, ...], _PLACES]
"""Paths or addresses, in which a slash separates nothing."""


def _sentence(error: Any) -> str:
    """One pydantic error as ``name: what is wrong (got value)``."""
    name = ".".join(str(part) for part in error["loc"]) or "options"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such option; check the spelling"
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    shows_value = error["loc"] and error["type"] != "missing"
    return f"{name}: {message}" + (f" (got {error['input']!r})" if shows_value else "")


def takes_a_list(annotation: Any) -> bool:
    """Whether a field of this type holds several values; None may be allowed besides."""
    types = (annotation, *get_args(annotation))
    return any(get_origin(one) is tuple for one in types)


class Options(BaseModel):
    """Options of one part of the software.

    Unknown names are refused, so that a misspelt option is never silently ignored, and an
    instance never changes after it has been checked.

    Wherever a list is expected, text with slashes is one as well, as in ``0/1``, and a single
    value is a list of one: a shell or Kedro's own command line may take a bracket or a comma
    apart, but neither of these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _list_of_text(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        single = isinstance(value, str | int | float) and not isinstance(value, bool)
        if not single or not takes_a_list(field.annotation):
            return value
        if isinstance(value, str) and _PLACES not in field.metadata:
            return tuple(part.strip() for part in value.split(LIST_SEPARATOR))
        return (value,)

    @classmethod
    def model_validate(cls, obj: Any, **kwargs: Any) -> Self:
        """Check raw values, as read from a parameter file.

        Args:
            obj: Mapping of option names to values.
            **kwargs: As for pydantic's own method.

        Returns:
            The checked options.

        Raises:
            BadInputError: One sentence for each option that is wrong.
        """
        try:
            return super().model_validate(obj, **kwargs)
        except ValidationError as error:
            complaints = "; ".join(_sentence(one) for one in error.errors())
            raise BadInputError(complaints) from None
