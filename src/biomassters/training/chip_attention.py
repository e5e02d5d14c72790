"""Which months the network looked at in each of some chips of a store."""

from collections.abc import Sequence

import pandas as pd
from biomassters.training.batch import Batch
