"""Hostile files through the real command line: exit status 1, one sentence, soon, nothing run.

Each kind passes another door; ``tests/test_hostile_files.py`` tries many at every door.
"""

import hashlib
import json
import shutil
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import rasterio

from biomassters.chips.scaling import BandScaling
from biomassters.io.checksum import posix_cksum
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.network.weights import save_network, write_safetensors

MOST_SECONDS = 30.0  # 5 s for the refusal; a busy machine takes the rest to import torch
VRT = (
    '<VRTDataset rasterXSize="24" rasterYSize="16"><VRTRasterBand dataType="Float32" band="1">'
    "<SimpleSource><SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand>"
    "</VRTDataset>"
)


@pytest.fixture(scope="module")
def prepared(project, kedro) -> Path:
    """A project with data, a region, weights and what else the pipelines ask for."""
    names = "simulation,data_engineering,region_simulation"
    done = kedro("run", "--env", "test", "--pipelines", names)
    assert done.returncode == 0, done.stderr
    models = project / "data/06_models/test"
    save_network(AgbNet(NetworkOptions(), BandScaling.reference()), models / "weights.safetensors")
    (models / "uncertainty.json").write_text("{}")
    return project


def label(project, folder):
    """A label of 200,000 × 200,000 pixels."""
    shutil.copytree(project / "data/01_raw/test", folder / "raw")
    path = min((folder / "raw/train_agbm").iterdir())
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=200_000, width=200_000, dtype="float32",
        tiled=True, sparse_ok=True, compress="deflate",
    ):  # fmt: skip
        pass
    metadata = folder / "raw/train_agbm_metadata.csv"
    table = pd.read_csv(metadata, dtype=str)
    content = path.read_bytes()
    facts = [str(len(content)), str(posix_cksum(content))]
    table.loc[table["filename"] == path.name, ["size", "cksum"]] = facts
    table.to_csv(metadata, index=False)
    given = f"raw_root={folder}/raw,data_engineering.inspection.on_damaged=stop"
    return "data_engineering", given, f"{path.name} has 200000 x 200000 pixels"


def vrt(project, folder):
    """A text that reads another file, named like an image."""
    (folder / "S2_00.tif").write_text(VRT)
    return "mapping", f"region_root={folder}", "S2_00.tif can't be"


def geojson(project, folder):
    """Brackets without end."""
    (folder / "area.geojson").write_text('{"a":' * 100_000)
    return "mapping", f"mapping.area.file={folder}/area.geojson", "area.geojson is nested too"


def stac(project, folder):
    """A href that would make GDAL ask a server."""
    asset = {"href": "/vsicurl/http://127.0.0.1:9/x.tif", "type": "image/tiff", "roles": ["data"]}
    properties = {"datetime": "2020-11-15T00:00:00Z", "constellation": "sentinel-2"}
    item = {"type": "Feature", "id": "a", "properties": properties, "assets": {"data": asset}}
    (folder / "items.json").write_text(json.dumps(item))
    return "mapping", f"region_root={folder}/items.json", "/vsicurl/http://127.0.0.1:9/x.tif can't"


def pickle_in(path, folder):
    with zipfile.ZipFile(path, "w") as archive:
        program = b"cos\nsystem\n(S'touch %s/executed'\ntR." % str(folder).encode()
        archive.writestr("archive/data.pkl", program)


def pth(project, folder):
    """A pickle that runs a command."""
    pickle_in(folder / "model.pth", folder)
    return "reference_weights", f"reference_checkpoint={folder}/model.pth", "model.pth"


def checkpoint(project, folder):
    """The same in place of a checkpoint."""
    place = project / "data/06_models/test/checkpoints/fit/fold_0"
    place.mkdir(parents=True, exist_ok=True)
    pickle_in(place / "checkpoint_00001_000000.pt", folder)
    return "training", "", "None of the checkpoints in"


def members(project, folder):
    """Weights whose JSON names a file elsewhere."""
    network = AgbNet(NetworkOptions(), BandScaling.reference())
    save_network(network, folder / "w.safetensors")
    text = json.dumps(json.loads((folder / "w.json").read_text()) | {"members": ["../../x"]})
    (folder / "w.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_safetensors(
        folder / "w.safetensors", network.state_dict(), {"description_sha256": digest}
    )
    return "prediction", f"weights={folder}/w.safetensors", "lists the members ['../../x']"


def store(project, folder):
    """Chips of 10¹² × 64 pixels."""
    shutil.copytree(project / "data/05_model_input/test/chips.zarr", folder / "chips.zarr")
    path = folder / "chips.zarr/manifest.json"
    values = json.loads(path.read_text())
    del values["checksum"]
    for chip in values["chips"]:
        chip["height"] = 10**12
    text = json.dumps(values, sort_keys=True)
    values["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(values))
    return "training", f"chip_store={folder}/chips.zarr", "height of chip 0"


def submission(project, folder):
    """The same text, named like a map."""
    table = pd.read_parquet(project / "data/02_intermediate/test/chip_table.parquet")
    name = f"{table.loc[table['split'] == 'test', 'chip_id'].iloc[0]}_agbm.tif"
    with zipfile.ZipFile(folder / "s.zip", "w") as archive:
        archive.writestr(name, VRT)
    return "submission_check", f"submission_file={folder}/s.zip", f"{name} is no readable TIFF"


def metadata(project, folder):
    """An address that would choose the server."""
    shutil.copytree(project / "data/01_raw/test", folder / "raw")
    (folder / "raw/.generated-archive").unlink()
    path = folder / "raw/features_metadata.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["s3path_eu"] = "s3://127.0.0.1:9#/" + table["filename"]
    table.to_csv(path, index=False)
    return "acquisition", f"raw_root={folder}/raw", "which is none in a bucket"


def scheduler(project, folder):
    """Nobody there."""
    return "data_engineering", "dask.scheduler_address=tcp://127.0.0.1:9", "nobody answers at"


def parameters(project, folder):
    """Python in a parameter file."""
    command = f"touch {folder}/executed"
    (project / "conf/test/parameters_hostile.yml").write_text(
        f"tracking: !!python/object/apply:os.system ['{command}']\n"
    )
    return "simulation", "", "parameters_hostile.yml is no plain YAML in line 1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [label, vrt, geojson, stac, pth, checkpoint, members, store, submission, metadata, scheduler,
     parameters],
)  # fmt: skip
def test_a_hostile_file_is_refused_in_one_sentence(prepared, kedro, tmp_path, kind):
    pipeline, given, sentence = kind(prepared, tmp_path)
    start = time.monotonic()
    try:
        result = kedro("run", "--env", "test", "--pipelines", pipeline, "--params", given)
    finally:
        (prepared / "conf/test/parameters_hostile.yml").unlink(missing_ok=True)
    seconds = time.monotonic() - start
    lines = result.stderr.strip().splitlines()
    print(f"| {kind.__name__} | {seconds:.1f} | {lines[-1]} |")  # noqa: T201
    assert result.returncode == 1
    assert lines[-1].startswith("Error: ")
    assert sentence in lines[-1]
    assert [line for line in lines if line.startswith("Error: ")] == lines[-1:]
    assert "Traceback" not in result.stderr + result.stdout
    assert seconds < MOST_SECONDS
    assert not (tmp_path / "executed").exists()
