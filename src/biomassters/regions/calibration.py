"""Intervals and errors that were calibrated for the weights in use, if there are any."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from biomassters.errors import BadInputError
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.intervals import IntervalModel

log = logging.getLogger(__name__)
