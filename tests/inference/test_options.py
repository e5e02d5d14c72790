import pytest
from pydantic import ValidationError

from biomassters.inference.options import InferenceOptions


def test_four_views_by_default():
    assert InferenceOptions().views == ("identity", "left_right", "up_down", "both")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("views", []),
        ("views", ["sideways"]),
        ("views", ["both", "both"]),
        ("batch_size", 0),
        ("loader_threads", 0),
        ("precision", "float64"),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("vews", ["identity"]),
    ],
)
def test_refuses_what_cannot_run_and_names_it(field, value):
    with pytest.raises(ValidationError, match=field):
        InferenceOptions(**{field: value})


def test_importing_options_loads_no_torch():
    import subprocess
    import sys

    code = "import sys, biomassters.inference.options as o; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
