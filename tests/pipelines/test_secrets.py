"""Secrets planted in addresses, and whole runs: nothing that a run leaves holds one of them."""

import base64
import gzip
import json
import tarfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import rasterio
import yaml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),  # maps of chips
]
WORD = "PLANTED"  # in every secret
LOGIN = f"me:{WORD}-word"
SIGNATURE = f"sig={WORD}-signature"
KEYS = f"AKIA{WORD}:{WORD}-key"
# As an HTTP header would have the login.
TRACES = (WORD.encode(), base64.b64encode(LOGIN.encode()).rstrip(b"=")[:-1])
NOBODY = "127.0.0.1:9"  # the port where nobody answers


def texts(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what they hold where they are compressed."""
    content = path.read_bytes()
    yield content
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        yield f"{table.to_dict('list')} {table.attrs}".encode()
    elif path.suffix == ".npz" or zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            yield from (archive.extractfile(one).read() for one in archive if one.isfile())
    elif content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    elif path.suffix == ".tif":
        with rasterio.open(path) as file:
            tags = [file.tags(ns=name) for name in (None, *file.tag_namespaces())]
            yield str(tags).encode()


@cache
def holds_trace(path: Path, _changed_ns: int, _bytes: int) -> bool:
    """Whether a secret is in a file; looked into once where it stays as it is."""
    return any(trace in text for text in texts(path) for trace in TRACES)


def leaks(folder: Path, given: set[Path]) -> list[str]:
    """Files with a secret, but for those that the test itself has written."""
    files = (path for path in folder.rglob("*") if path.is_file() and path not in given)
    return [
        str(path.relative_to(folder))
        for path in files
        if WORD in str(path.relative_to(folder))
        or holds_trace(path, path.stat().st_mtime_ns, path.stat().st_size)
    ]


def said(result) -> str:
    """All of the console without its line breaks, which might lie within a secret."""
    return "".join((result.stdout + result.stderr).split())


def write_environment(project: Path, name: str, **options: object) -> Path:
    """As ``conf/test`` is, with addresses that have secrets in them."""
    folder = project / "conf" / name
    folder.mkdir()
    (folder / "globals.yml").write_text(
        yaml.safe_dump({"dataset": name, "raw_root": f"data/01_raw/{name}", "raw_writable": False})
    )
    given = yaml.safe_load((project / "conf/test/parameters.yml").read_text())
    given |= {"tracking": {"mlflow": True}, **options}
    path = folder / "parameters.yml"
    path.write_text(yaml.safe_dump(given))
    return path


def items_at(host: str, names: list[str], scheme: str = "http") -> dict[str, object]:
    """A STAC item collection of a region's months at signed addresses."""
    months = {"00": "2020-09-10T10:00:00Z", "09": "2021-06-10T10:00:00Z"}
    features = [
        {
            "type": "Feature",
            "id": Path(name).stem,
            "properties": {
                "datetime": months[name[3:5]], "constellation": f"sentinel-{name[1]}"
            },
            "assets": {
                "image": {
                    "href": f"{scheme}://{LOGIN}@{host}/{name}?{SIGNATURE}", "type": "image/tiff"
                }
            },
        }
        for name in names
    ]  # fmt: skip
    return {"type": "FeatureCollection", "features": features}


@pytest.fixture(scope="module")
def mirror(project, kedro, range_server, default_run):
    """A served archive, and a region's images."""
    default_run.copy_to(project, "01_raw")
    made = kedro("run", "--env", "test", "--pipelines", "region_simulation")
    assert made.returncode == 0, made.stderr
    return range_server(project / "data/01_raw")


@pytest.fixture(scope="module")
def succeeded(project, kedro, mirror, optional):
    """Acquisition to report, and the map of a region, tracked; given files, what was said."""
    optional("mlflow")
    given = {
        write_environment(
            project, "planted",
            acquisition={
                "source": f"http://{LOGIN}@{mirror.host}/test",
                "endpoint": f"https://{KEYS}@{NOBODY}/x?{SIGNATURE}",
            },
        )
    }  # fmt: skip
    results = []

    def run(pipeline: str, *parameters: str) -> None:
        results.append(kedro("run", "--env", "planted", "--pipelines", pipeline, *parameters))
        assert results[-1].returncode == 0, results[-1].stderr

    run("acquisition", "--params", f"acquisition.endpoint=https://{LOGIN}@{NOBODY}")
    run("from_archive")
    names = sorted(path.name for path in (project / "data/01_raw/test_region").glob("S[12]_*.tif"))
    items = project / "items.json"
    items.write_text(json.dumps(items_at(f"{mirror.host}/test_region", names)))
    run("mapping", "--params", f"region_root={items}")
    return given | {items}, results


def test_the_secrets_were_used(succeeded, mirror):
    assert any(path.endswith(f"?{SIGNATURE}") for path in mirror.asked)
    assert any("/train_features/" in path for path in mirror.asked)


def test_whole_runs_leave_none(project, succeeded):
    given, results = succeeded
    assert not [result for result in results if WORD in said(result)]
    reports = project / "data/08_reporting"
    assert {"report.html", "run.json"} <= {path.name for path in (reports / "planted").iterdir()}
    assert b"***@" in (reports / "mlflow.db").read_bytes()
    assert list((reports / "mlflow_artefacts").rglob("report.html"))
    region = project / "data/07_model_output/planted/region"
    assert {"agb.tif.html", "agb.tif.item.json"} <= {path.name for path in region.iterdir()}
    assert leaks(project, given) == []


FAILING = {
    "acquisition": (
        "acquisition",
        {"acquisition": {"source": f"http://{LOGIN}@{NOBODY}/x", "retries": 0, "timeout_s": 5}},
        "",
        "can't be read",
    ),
    "bucket": (
        "acquisition",
        {"acquisition": {"source": f"s3://{KEYS}@box/x?{SIGNATURE}", "retries": 0, "timeout_s": 5,
                         "endpoint": f"http://{LOGIN}@{NOBODY}"}},
        "",
        "Error",
    ),
    "scheduler": (
        "data_engineering",
        {"dask": {"scheduler_address": f"tcp://{LOGIN}@{NOBODY}", "timeout_s": 3}},
        "raw_root=data/01_raw/test",
        "nobody answers at tcp://***@",
    ),
    "archive": ("data_engineering", {}, f"raw_root=az://{KEYS}@box/x?{SIGNATURE}", "Error"),
    "store": ("training", {}, f"chip_store=s3://{KEYS}@box/chips.zarr?{SIGNATURE}", "Error"),
    "images": ("mapping", {}, "region_root=azure.json", "names no bucket"),
    "map": (
        "mapping", {"mapping": {"images": {"check_ranges": False}}}, "region_root=cut.json",
        "could not be mapped",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING)
def test_failing_runs_leave_none(project, kedro, mirror, succeeded, name, monkeypatch):
    pipeline, options, parameters, sentence = FAILING[name]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{NOBODY}")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "nobody")
    given, _ = succeeded
    region = project / "data/01_raw/test_region"
    names = sorted(path.name for path in region.glob("S[12]_*.tif"))
    for file, host, scheme in (
        ("azure.json", "box", "az"), ("cut.json", f"{mirror.host}/cut", "http")
    ):  # fmt: skip
        (project / file).write_text(json.dumps(items_at(host, names, scheme)))
        given.add(project / file)
    _cut(region, project / "data/01_raw/cut", names)
    environment = f"failing-{name}"
    given.add(write_environment(project, environment, **options))
    if pipeline in ("mapping", "training"):  # what the run before has made
        given_weights = "weights=data/06_models/planted/final_weights.safetensors"
        parameters = f"{parameters},{given_weights}" if pipeline == "mapping" else parameters
    result = kedro(
        "run", "--env", environment, "--pipelines", pipeline,
        *(("--params", parameters) if parameters else ()),
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "".join(sentence.split()) in said(result)
    assert WORD not in said(result), result.stderr
    assert leaks(project, given) == []


def _cut(region: Path, place: Path, names: list[str]) -> None:
    """The same images, one of them without its second half."""
    place.mkdir(exist_ok=True)
    for name in names:
        content = (region / name).read_bytes()
        (place / name).write_bytes(content[: len(content) // 2] if name == names[-1] else content)
