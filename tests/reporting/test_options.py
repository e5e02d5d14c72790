import subprocess
import sys

import pytest
from pydantic import ValidationError

from biomassters.reporting.options import ReportingOptions


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ridge_chips", 0),
        ("ridge_pixels_per_chip", 0),
        ("ridge_alpha", -1),
        ("picture_chips", 0),
        ("listed_chips", -1),
        ("pictures", 3),
    ],
)
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(ValidationError, match=field):
        ReportingOptions(**{field: value})


def test_reporting_loads_no_torch():
    code = (
        "import sys, biomassters.reporting.report, biomassters.submission.build, "
        "biomassters.reporting.baselines; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
