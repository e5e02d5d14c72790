import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.bands import BAND_NAMES
from biomassters.chips.chip import Chip
from biomassters.chips.quality.statistics import BandStatistics
from biomassters.chips.scaling import BandScaling
from biomassters.errors import BadInputError


def measured_frame() -> pd.DataFrame:
    frame = pd.DataFrame({"min": 2.0, "max": 7.0}, index=pd.Index(BAND_NAMES, name="band"))
    frame.loc["VV_asc"] = [-24.5, 11.25]
    return frame


def test_reference() -> None:
    offset, width = BandScaling.reference().offset_and_range()
    assert offset.dtype == width.dtype == np.float32
    assert offset.tolist() == [-25, -62, -25, -60, *[0] * 11]
    assert width[:5].tolist() == [54, 90, 55, 82, 19616]
    assert width[-1] == 255


def test_measured() -> None:
    scaling = BandScaling.measured(measured_frame())
    offset, width = scaling.offset_and_range()
    assert (offset[0], width[0]) == (-24.5, 35.75)
    assert (offset[1], width[1]) == (2, 5)
    assert (offset[4], width[4]) == (0, 7)  # 0 reflectance stays 0
    assert (offset[14], width[14]) == (0, 255)  # CLP knows 255, which statistics leave out


def test_measured_on_chips(make_chip: Callable[..., Chip]) -> None:
    statistics = BandStatistics()
    statistics.update(make_chip("0a"))
    scaling = BandScaling.measured(statistics.to_frame())
    assert scaling.maximum["B12"] == statistics.to_frame().loc["B12", "max"]


@pytest.mark.parametrize("values", [[5.0, 5.0], [np.nan, np.nan]])
def test_too_little_to_measure(values: list[float]) -> None:
    frame = measured_frame()
    frame.loc["VH_desc"] = values
    with pytest.raises(BadInputError, match=r"Band VH_desc has too few .* reference scaling"):
        BandScaling.measured(frame)


def test_through_json() -> None:
    scaling = BandScaling.measured(measured_frame())
    assert BandScaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


def test_wrong_bands() -> None:
    minimum, maximum = BandScaling.reference().minimum, BandScaling.reference().maximum
    with pytest.raises(ValueError, match=r"minimum lacks or doesn't know \['B2', 'B99'\]"):
        BandScaling({"B99" if band == "B2" else band: 0.0 for band in BAND_NAMES}, maximum)
    with pytest.raises(ValueError, match=r"Scaling of CLP from 0.0 to 0.0 is empty"):
        BandScaling(minimum, maximum | {"CLP": 0.0})
