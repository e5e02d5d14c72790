"""The example of docs/archive.md runs, and gives what its comments say."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from biomassters.chips.store.writer import write_store

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "archive.md"


@pytest.fixture
def example() -> str:
    (code, *others) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "xr.open_zarr" in code
    assert len(others) == 1, "the one for buckets, see test_storage.py"
    return code


def test_xarray_gives_units_and_missing_values(
    example, tmp_path, monkeypatch, made_chips, capsys, optional
):
    optional("xarray")
    source = made_chips(names={"train": ["00000000", "000aa810"]})
    write_store(tmp_path / "data" / "05_model_input" / "biomassters" / "chips.zarr", source)
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(example, found)
    assert capsys.readouterr().out == "dB Mg ha-1\n"
    chip = source.chip("000aa810")
    backscatter = found["backscatter"].values[1]
    expected = np.where(chip.images["s1"][:, 0] == -9999, np.nan, chip.images["s1"][:, 0])
    np.testing.assert_allclose(backscatter, expected, atol=0.00501)
    assert np.isnan(backscatter).any()
    assert found["reflectance"].sizes["s2_band"] == 10
    np.testing.assert_allclose(found["reflectance"].values[1], chip.images["s2"][:, :10] / 1e4)
    assert np.array_equal(found["biomass"].values[1], chip.agb_mg_per_ha)
    assert np.array_equal(found["chip"]["agb"].values, chip.agb_mg_per_ha)
    train = found["train"]
    assert train["s1"].encoding["scale_factor"] == 0.01
    assert train["s1"].encoding["_FillValue"] == -32768
    assert train.attrs["Conventions"] == "CF-1.11"
    assert train["s2"].attrs["units"] == "1"
    assert train["agb"].attrs["long_name"] == "Aboveground biomass density"


def test_the_plan_is_the_computed_one():
    script = REPOSITORY / "benchmarks" / "archive_plan.py"
    computed = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(computed) == 8
    assert set(computed) <= set(PAGE.read_text().splitlines())
