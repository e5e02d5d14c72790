"""Kedro's project settings."""

import os
import warnings

from biomassters.hooks import ClosingSummary, ParameterNameCheck, PlainErrors

# Albumentations-style update checks and hub progress bars have no place in a run's output.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
warnings.filterwarnings("ignore", message=r".*antlr4.*")

HOOKS = (ParameterNameCheck(), PlainErrors(), ClosingSummary())

CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local"}
