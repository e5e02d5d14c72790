"""Kedro's project settings."""

import logging
import warnings

from biomassters.hooks import ClosingSummary, ParameterNameCheck, PlainErrors
from biomassters.lineage.run_record import RunRecord
from biomassters.lineage.tracking import MlflowTracking

# Kedro 1.7 calls OmegaConf by an old name, which nobody who runs this can change.
warnings.filterwarnings("ignore", message=r"register_new_resolver\(\) is deprecated")


def _is_news(record: logging.LogRecord) -> bool:
    return "Using synchronous mode" not in record.msg


# Advice at every start that doesn't fit: these nodes stream, and --async wouldn't help them.
logging.getLogger("kedro.runner.sequential_runner").addFilter(_is_news)

HOOKS = (
    ParameterNameCheck(),
    PlainErrors(),
    RunRecord(),
    MlflowTracking(),
    ClosingSummary(),
)

CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local"}
