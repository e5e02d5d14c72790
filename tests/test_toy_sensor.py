"""A further sensor, added as docs/how_to/extend.md says: a row of the table, and its images.

A copy of the package gets both; what runs then is the copy, in a process of its own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import biomassters
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.network.weights import load_network, save_network

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[1] / "docs/how_to/extend.md"
ROW, IMAGES = re.findall(
    r"```python\n(.*?)```", PAGE.read_text().partition("## A sensor")[2], re.DOTALL
)
MAKERS = "SIMULATED: Mapping[str, MakeYear] = {\n"
# What the page says to write: by file, a line that is there and what it becomes.
TABLE = "chips/bands.py"
EDITS = {
    TABLE: ("SENSORS = (S1, S2)\n", ROW),
    "simulation/simulated_images.py": (MAKERS, f'{IMAGES}\n\n{MAKERS}    "l1": l_band,\n'),
}

CHAIN = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rasterio.windows import Window

import biomassters
from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.bands import BAND_NAMES, SENSOR
from biomassters.chips.pixel_checks import check_chip
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.quality.verification import VerificationOptions, verify_archive
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.writer import write_store
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.inference.chips import batch_of_chip, predict_chips, predict_split
from biomassters.inference.options import InferenceOptions
from biomassters.inference.predict import predict_batch
from biomassters.network.options import NetworkOptions
from biomassters.network.weights import load_network, save_network
from biomassters.regions.inputs.source import open_region
from biomassters.regions.options import AreaOptions, ImageOptions
from biomassters.reporting.baselines import yearly_medians
from biomassters.simulation.options import RegionSimulationOptions, SimulationOptions
from biomassters.simulation.simulated_chips import SimulatedChips, write_simulated
from biomassters.simulation.simulated_region import SimulatedRegion, write_region
from biomassters.training.options import TrainingOptions
from biomassters.training.train import new_network, train

package, work = map(Path, sys.argv[1:])
assert Path(biomassters.__file__).parent == package
assert BAND_NAMES[-2:] == ("HH", "HV")

# archive: written by the simulation, looked at, verified
chips = SimulatedChips(SimulationOptions(train_chips=3, test_chips=1, chip_size=64))
write_simulated(chips, work / "raw")
assert len(list((work / "raw").rglob("*_L1_*.tif"))) == 4 * 12
archive = Archive.open(work / "raw")
verified = verify_archive(archive, work, VerificationOptions())
assert set(verified["status"]) == {"right"}
toy_files = verified[verified["sensor"] == "l1"]
assert toy_files["nodata_fraction"].max() == 1.0
table, statistics = inspect_archive(archive, InspectionOptions())
assert table["usable"].all()
assert table["l1_months"].map(len).tolist() == [12] * 4
fractions = table["l1_nodata_fraction"][0]
assert (fractions[0], fractions[1], fractions[5]) == (64 / 64**2, 0, 1)
frame = statistics.to_frame()
assert frame.loc["HV", "count"] == 3 * (11 * 64**2 - 64)
assert -25 < frame.loc["HV", "min"] < frame.loc["HV", "max"] < -10

# chip store
write_store(work / "store", UsableChips(archive, table))
split = ChipStore(work / "store").split("train")
assert split.present.shape == (3, 12, 3)
before, after = archive.read_chip(split.chip_ids[0]), split.read_chip(0)
check_chip(after, 10.0)
seen = before.images["l1"] > -9999
assert np.abs(before.images["l1"] - after.images["l1"])[seen].max() <= 0.00251
assert (after.images["l1"][~seen] == -9999).all()
assert np.isfinite(yearly_medians(after)[-2:]).all()

# one training step, and what it came to
network = new_network(NetworkOptions(), BandScaling.measured(frame), 1)
stem = network.encoder.model.get_parameter("conv_stem.weight")
assert stem.shape[1] == len(BAND_NAMES) == 17
first = stem.detach().clone()
options = TrainingOptions(epochs=1, batch_size=2, crop=64, device="cpu", ema_decay=None)
train(network, split, [0, 1], [2], options, work / "checkpoints", fingerprint="-")
assert (stem[:, -2:] != first[:, -2:]).any(), "the step moved the toy's weights"
save_network(network.eval(), work / "weights.safetensors")

# prediction with weights from the disk: from the store, and from the archive by itself
network = load_network(work / "weights.safetensors")
plain = InferenceOptions(device="cpu")
test = ChipStore(work / "store").split("test")
(predicted,) = predict_split(network, test, [0], plain)
(again,) = predict_chips(network, list(test.chip_ids), archive.read_chip, plain)
assert np.isfinite(predicted.agb_mg_per_ha).all()
np.testing.assert_allclose(again.agb_mg_per_ha, predicted.agb_mg_per_ha, rtol=1e-4, atol=1e-3)
batch = batch_of_chip(test.read_chip(0))
blind = {**batch.images, "l1": torch.full_like(batch.images["l1"], SENSOR["l1"].fill)}
with_toy, without = (
    predict_batch(network, images, batch.chip_of_month, 1, clip_negative=False)
    for images in (batch.images, blind)
)
assert not torch.equal(with_toy, without), "the map depends on the toy's images"

# images of a region
write_region(SimulatedRegion(RegionSimulationOptions(width=64, height=64)), work / "region")
source = open_region(str(work / "region"), ImageOptions(), AreaOptions())
with ThreadPoolExecutor(1) as pool:
    window = source.read(Window(0, 0, 64, 64), pool)
assert window.images["l1"].shape == (12, 2, 64, 64)
assert (window.images["l1"][5] == -32768).all()
assert (window.images["l1"][6] != -32768).all()
"""

READ_AS_BEFORE = """
import sys

from biomassters.chips.bands import SENSOR
from biomassters.chips.store.reader import ChipStore

store = ChipStore(sys.argv[1], sys.argv[2])
split = store.split("train")
assert split.present[..., :2].any()
assert not split.present[..., 2].any()
chip = split.read_chip(0)
assert (chip.images["l1"] == SENSOR["l1"].nodata).all()
assert chip.images["s2"].any()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the chain has run, in a package with the toy sensor."""
    root = tmp_path_factory.mktemp("toy")
    package = root / "src/biomassters"
    original = Path(biomassters.__file__).parent
    shutil.copytree(original, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (line, added) in EDITS.items():
        text = (package / name).read_text()
        assert text.count(line) == 1, name
        (package / name).write_text(text.replace(line, added))
    in_the_copy(root, CHAIN, package, root)
    return root


def in_the_copy(root: Path, code: str, *arguments: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_archive_to_store_to_training_step_to_prediction(work: Path) -> None:
    assert (work / "weights.safetensors").exists()


def test_at_most_three_files_beside_the_table_are_touched() -> None:
    assert TABLE in EDITS
    assert len(EDITS) - 1 <= 3


def test_weights_with_the_toys_bands_are_refused_without_it(work: Path) -> None:
    with pytest.raises(BadInputError, match=r"lists other bands than VV_asc.*train anew"):
        load_network(work / "weights.safetensors")


def test_a_store_of_before_has_no_images_of_the_toy(work: Path, tmp_path: Path, made_chips) -> None:
    ours = write_store(tmp_path / "store", made_chips())
    in_the_copy(work, READ_AS_BEFORE, tmp_path / "store", ours.fingerprint)


def test_and_those_without_it_are_refused_with_it(work: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_network(AgbNet(NetworkOptions(), BandScaling.reference()), tmp_path / "w.safetensors")
    load = "from biomassters.network.weights import load_network as l; import sys; l(sys.argv[1])"
    with pytest.raises(AssertionError, match="lists other bands than VV_asc") as refused:
        in_the_copy(work, load, tmp_path / "w.safetensors")
    assert "HH, HV: use weights that were trained with these" in str(refused.value)
