"""Datasets that Kedro-Viz would not show by itself: chip table, model card, a training at work.

Kedro-Viz asks ``preview`` whenever somebody clicks on a dataset, and draws by the name of the type
that it returns. Libraries are imported there: every command makes these datasets.
"""

import json
from pathlib import Path

import pandas as pd
from kedro_datasets._typing import HTMLPreview, PlotlyPreview, TablePreview
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.text import TextDataset

from biomassters.datasets.paths import FolderDataset
from biomassters.metrics import AGB_UNIT

CURVES = {"epoch/loss": "training loss", "epoch/held_out_rmse_mg_per_ha": "held-out RMSE"}
"""Curves of TensorBoard's that are drawn, as ``training.monitoring`` names them."""


class ChipTableDataset(ParquetDataset):
    """The chip table, whose lists of months and fractions are too much for a preview.

    Example:
        >>> path = "data/02_intermediate/simulated/chip_table.parquet"
        >>> ChipTableDataset(filepath=path).preview(nrows=5)  # doctest: +SKIP
    """

    def preview(self, nrows: int = 40) -> TablePreview:
        """The first chips: plain columns, and of a sensor's months how many there are."""
        table = ParquetDataset.load.__wrapped__(self).head(nrows)
        shown: dict[str, pd.Series] = {}
        for name, column in table.items():
            lists = not column.map(pd.api.types.is_scalar).all()
            if not lists:
                shown[str(name)] = column.round(3) if column.dtype.kind == "f" else column
            elif str(name).endswith("_months"):
                shown[str(name)] = column.map(len)
        return TablePreview(pd.DataFrame(shown).to_dict(orient="split"))


class MarkdownDataset(TextDataset):
    """Markdown, which Kedro-Viz shows as a page.

    Example:
        >>> path = "data/06_models/simulated/model_card.md"
        >>> MarkdownDataset(filepath=path).preview()  # doctest: +SKIP
    """

    def preview(self) -> HTMLPreview:
        """The text as HTML; tags in it stay text."""
        from markdown_it import MarkdownIt

        text = TextDataset.load.__wrapped__(self)
        return HTMLPreview(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))


class TrainingEventsDataset(FolderDataset):
    """TensorBoard's event files, whose curves grow while a network is trained.

    Example:
        >>> folder = "data/08_reporting/simulated/tensorboard"
        >>> TrainingEventsDataset(filepath=folder).preview()  # doctest: +SKIP
    """

    def preview(self) -> PlotlyPreview:
        """Loss and held-out RMSE of every stage and network, as far as they have come."""
        import plotly.graph_objects as go
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        lines = []
        for folder in sorted({file.parent for file in self._filepath.rglob("events.*")}):
            events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
            for curve in CURVES.keys() & set(events.Tags()["scalars"]):
                found = events.Scalars(curve)
                name = f"{_run(folder, self._filepath)}{CURVES[curve]}"
                steps, values = [one.step for one in found], [one.value for one in found]
                lines.append(go.Scatter(x=steps, y=values, name=name, mode="lines+markers"))
        lines.sort(key=lambda line: line.name)
        figure = go.Figure(lines)
        figure.update_layout(xaxis_title="Optimizer step", yaxis_title=AGB_UNIT)
        return PlotlyPreview(json.loads(str(figure.to_json())))


def _run(folder: Path, above: Path) -> str:
    """Which stage and network, where there are several."""
    inner = folder.relative_to(above).as_posix()
    return "" if inner == "." else f"{inner}: "
