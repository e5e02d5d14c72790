"""The base of every options model: frozen, closed to unknown names, plain in its complaints."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from biomassters.errors import BadInputError


def _sentence(error: Any) -> str:
    """One pydantic error as ``name: what is wrong (got value)``."""
    name = ".".join(str(part) for part in error["loc"]) or "options"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such option; check the spelling"
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    shows_value = error["loc"] and error["type"] != "missing"
    return f"{name}: {message}" + (f" (got {error['input']!r})" if shows_value else "")


class Options(BaseModel):
    """Options of one part of the software.

    Unknown names are refused, so that a misspelt option is never silently ignored, and an
    instance never changes after it has been checked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
