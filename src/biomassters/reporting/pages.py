"""Pages of HTML that need nothing but themselves: templates, and what stands in them.

A room's templates lie in its folder ``templates``; what several share lies in ``reporting``'s.
"""

import base64
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from biomassters import __version__
from biomassters.metrics import AGB_UNIT
from biomassters.reporting.figure_style import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(room: str, template: str, **values: Any) -> str:
    """Fill in a template.

    Args:
        room: The subpackage whose template it is.
        template: Its file.
        **values: That it shows, besides ``version`` and ``unit``.
    """
    environment = Environment(
        loader=PackageLoader(f"biomassters.{room}"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": number, "percent": _percent, "breakable": _breakable}
    return environment.get_template(template).render(version=__version__, unit=AGB_UNIT, **values)


def embedded(figures: Mapping[str, tuple["Figure", str]]) -> dict[str, Markup]:
    """Figures for the inside of a page, by name; each comes with what it shows in words."""
    # Drawn by us from numbers and checked ids: safe to put in as it is.
    return {name: Markup(to_svg(figure, name, text)) for name, (figure, text) in figures.items()}


def png_of(figure: "Figure", dpi: int) -> str:
    """A figure as a PNG in base64, where it holds pictures rather than lines."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return base64.b64encode(buffer.getvalue()).decode()


def records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """Rows of a table for pages and JSON, neither of which has NaN: None in its place."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def number(value: float | None, digits: int = 1) -> str:
    """A number with thousands separated and a true minus sign, none at 0; a dash if undefined."""
    if value is None or pd.isna(value):
        return "–"
    return f"{value:z,.{digits}f}".replace("-", "−")


def _percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash if undefined."""
    return "–" if value is None or pd.isna(value) else f"{number(100 * value, digits)} %"


def _breakable(name: str) -> Markup:
    """A dotted name that may go on in the next line after each dot and underscore."""
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))
