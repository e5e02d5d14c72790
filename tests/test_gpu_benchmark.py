"""The benchmark of GPUs at toy size on the CPU: it must work when a GPU is there for minutes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
WITH_TORCH_AND_TIMM_ALONE = """
import runpy, sys
for name in ("kedro", "pydantic", "zarr", "rasterio", "pandas", "scipy", "dask", "obstore"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    table = tmp_path_factory.mktemp("gpu") / "table.md"
    done = subprocess.run(
        [sys.executable, "-c", WITH_TORCH_AND_TIMM_ALONE, SCRIPT, "--json", "--markdown", table,
         "--compile-limit-s", "0.1"],
        check=True, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    figures = json.loads(done.stdout.splitlines()[-1])
    assert table.read_text().count("\n") > len(figures)
    return figures


def test_nothing_fails_but_what_was_given_no_time(found):
    assert found["compiled"] == {"failed": "not finished in 0 s"}
    assert found["fed_from_a_store"]["skipped"].endswith("is not installed here")
    text = json.dumps({part: figures for part, figures in found.items() if part != "compiled"})
    assert "failed" not in text


def test_arithmetic_is_told_apart(found):
    small = found["small_against_float64"]
    exact, coarse = (small[f"mobilenetv3_small_050, {name}"] for name in ("float32", "bfloat16"))
    assert 0 < exact["relative"] < 1e-3 < coarse["relative"]
    assert 0 < exact["gradient_relative"] < coarse["gradient_relative"]
    large = found["large_against_cpu"]
    assert large["unfolded, float32"]["relative"] == 0  # on a CPU the reference itself
    assert 0 < large["folded, float32"]["relative"] < 1e-3


def test_speeds_are_there_and_memory_is_not(found):
    speeds = [*found["training"].values(), *found["prediction"].values()]
    assert len(speeds) == 15
    assert all(one["chips_per_s"] > 0 and one["memory_gib"] is None for one in speeds)
    assert found["derived"]["recipe_days_extrapolated"] > 0
