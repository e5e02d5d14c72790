"""Kedro's project settings."""

import logging
import warnings

from biomassters.command import conf_source
from biomassters.conf_files import ConfigurationCheck
from biomassters.hooks import ClosingSummary, NodeLines, PlainErrors
from biomassters.lineage.run_record import RunRecord
from biomassters.lineage.tracking import MlflowTracking
from biomassters.preflight.hook import FullDisk, Preflight

# Kedro 1.7 calls OmegaConf by an old name, which nobody who runs this can change.
warnings.filterwarnings("ignore", message=r"register_new_resolver\(\) is deprecated")
logging.captureWarnings(True)

HOOKS = (
    ConfigurationCheck(),
    Preflight(),
    FullDisk(),
    PlainErrors(),
    NodeLines(),
    ClosingSummary(),
    RunRecord(),
    MlflowTracking(),
)

# Kedro-Viz would write every error with its traceback, addresses with their secrets among them, to
# ".viz"; "kedro viz" shows the lineage without.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-viz",)

CONF_SOURCE = str(conf_source())
# Kedro would let an environment's "training" take the place of all that base says of training, and
# --params with it; what base holds beyond would be forgotten, and missing in the record.
CONFIG_LOADER_ARGS = {
    "base_env": "base", "default_run_env": "local", "merge_strategy": {"parameters": "soft"},
}  # fmt: skip
