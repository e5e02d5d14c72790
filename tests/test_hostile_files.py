"""Files that would run something, hang, crash or fill the memory: refused, in one sentence.

Every file is made here. Kinds that ask for memory are refused in a process of their own, whose
largest size is measured.
"""

import gzip
import io
import json
import os
import pickle
import re
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

import biomassters
from biomassters.errors import BadInputError

MOST_SECONDS = 5.0
MOST_BYTES = 500 * 10**6
SOURCE = Path(biomassters.__file__).parent
SQUARE = [[24.0, 62.0], [24.1, 62.0], [24.1, 62.1], [24.0, 62.1], [24.0, 62.0]]


# ---- what is asked to open them; also called by name in a process of its own


def open_area(path):
    from rasterio.crs import CRS

    from biomassters.imagery.area import state_area
    from biomassters.imagery.options import AreaOptions

    state_area(AreaOptions(file=str(path))).within(CRS.from_epsg(3067))


def open_images(path):
    from biomassters.regions.inputs.source import open_region
    from biomassters.regions.options import AreaOptions, ImageOptions

    open_region(str(path), ImageOptions(), AreaOptions())


def check(path):
    from biomassters.submission.check import check_submission

    check_submission(path, ["x"], (16, 24), progress=False).require_valid(path)


def read_chip(path):
    from biomassters.io.raster import read_raster

    read_raster(path)


def read_pth(path):
    from biomassters.network.reference.checkpoint_file import read_checkpoint

    read_checkpoint(path)


def read_own(path):
    from biomassters.training.checkpoint import read_checkpoint

    read_checkpoint(path)


def refusal(opener, path) -> tuple[float, str]:
    start = time.monotonic()
    with pytest.raises(BadInputError) as caught:
        opener(path)
    seconds = time.monotonic() - start
    sentence = str(caught.value)
    print(f"| {path.name} | {seconds:.2f} | {sentence} |")  # noqa: T201
    assert "\n" not in sentence
    assert seconds < MOST_SECONDS
    return seconds, sentence


# ---- every GDAL open


def test_every_raster_is_opened_through_one_door():
    door = SOURCE / "io" / "gdal.py"
    other = re.compile(
        r"rasterio\.(open\(|vrt)|DatasetReader\(|WarpedVRT|from rasterio import .*\bopen\b"
    )
    found = [
        path.relative_to(SOURCE)
        for path in SOURCE.rglob("*.py")
        if path != door and other.search(path.read_text())
    ]
    assert not found
    # Ours to write: a GeoTIFF in memory; what is read from memory goes through the door as well.
    memory = [p.name for p in SOURCE.rglob("*.py") if "MemoryFile(" in p.read_text()]
    assert sorted(memory) == ["gdal.py", "raster.py"]


@contextmanager
def counting_server(answers=True):
    """A loopback server that counts connections; a silent one never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        stop, connections = threading.Event(), []

        def serve():
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                connections.append(connection)
                if answers:
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", connections
        finally:
            stop.set()
            thread.join()
            for connection in connections:
                connection.close()


def write_tif(path, values, **profile):
    count, height, width = values.shape
    place = {"crs": "EPSG:3067", "transform": from_origin(4e5, 69e5, 10, 10)}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype,
        **place, **profile,
    ) as file:  # fmt: skip
        file.write(values)
    return path


def vrt_of(path, source):
    band = (
        f'<VRTRasterBand dataType="Float32" band="1"><SimpleSource><SourceFilename>{source}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
    )
    path.write_text(f'<VRTDataset rasterXSize="24" rasterYSize="16">{band}</VRTDataset>')
    return path


def wms_of(path, address):
    path.write_text(
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{address}/${{z}}/${{x}}/${{y}}.png</ServerUrl>'
        "</Service><DataWindow><UpperLeftX>-2e7</UpperLeftX><UpperLeftY>2e7</UpperLeftY>"
        "<LowerRightX>2e7</LowerRightX><LowerRightY>-2e7</LowerRightY><TileLevel>1</TileLevel>"
        "</DataWindow><Projection>EPSG:3857</Projection><BandsCount>3</BandsCount></GDAL_WMS>"
    )
    return path


def test_a_vrt_in_a_submission_reads_no_other_file(tmp_path):
    secret = write_tif(tmp_path / "secret.tif", np.ones((1, 16, 24), np.float32))
    vrt = vrt_of(tmp_path / "x_agbm.tif", secret)
    with rasterio.open(vrt) as file:  # the file is what it is said to be
        assert file.driver == "VRT"
        assert file.read().max() == 1
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.write(vrt, vrt.name)
    _, sentence = refusal(check, tmp_path / "s.zip")
    assert "x_agbm.tif is no readable TIFF" in sentence
    refusal(read_chip, vrt)


def test_a_text_that_names_an_address_makes_no_request(tmp_path):
    with counting_server() as (address, connections):
        wms = wms_of(tmp_path / "S2_00.tif", address)
        vrt_of(tmp_path / "S1_00.tif", f"/vsicurl/{address}/x.tif")
        refusal(open_images, tmp_path)
        refusal(read_chip, wms)
        refusal(read_chip, tmp_path / "S1_00.tif")
        with rasterio.open(wms) as file, pytest.raises(rasterio.errors.RasterioError):
            file.read(1, window=((0, 8), (0, 8)))
        assert connections  # only of the line above
        connections.clear()
        values = np.ones((1, 16, 24), np.float32)
        tif = write_tif(tmp_path / "o_agbm.tif", values, compress="deflate")
        with rasterio.open(tif, "r+") as file:
            file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/{address}/x.tif")
        refusal(read_chip, tif)
        assert not connections


def test_a_coordinate_system_at_an_address_makes_no_request(tmp_path):
    with counting_server() as (address, connections):
        content = {
            "type": "Polygon", "coordinates": [SQUARE],
            "crs": {"type": "name", "properties": {"name": f"{address}/crs"}},
        }  # fmt: skip
        path = tmp_path / "area.geojson"
        path.write_text(json.dumps(content))
        _, sentence = refusal(open_area, path)
        assert "is no coordinate system" in sentence
        assert not connections


@pytest.mark.parametrize("suffix", ["S2.tif", "cube.zarr"])
def test_an_address_that_never_answers_is_given_up(tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("BIOMASSTERS_TIMEOUT_S", "1")
    with counting_server(answers=False) as (address, connections):
        place = f"{address}/{suffix}"
        if suffix == "S2.tif":
            place = str(stac(tmp_path, {"data": asset(place)}))
        start = time.monotonic()
        with pytest.raises(BadInputError):
            open_images(place)
        print(f"| silent {suffix} | {time.monotonic() - start:.2f} |")  # noqa: T201
        assert time.monotonic() - start < 10
        assert connections


# ---- sentences


def asset(href="a.tif", **more):
    return {"href": href, "type": "image/tiff", "roles": ["data"], **more}


def stac(folder, assets, **changes):
    properties = {"datetime": "2020-11-15T00:00:00Z", "constellation": "sentinel-2"}
    item = {"type": "Feature", "id": "a", "properties": properties, "assets": assets, **changes}
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))
    return path


@pytest.mark.parametrize(
    ("assets", "changes", "sentence"),
    [
        ({"data": {"type": "image/tiff"}}, {}, "href of asset data of item a is missing"),
        ({"data": asset(3)}, {}, "href of asset data of item a is no text"),
        ([asset()], {}, "assets of item a is no object"),
        (None, {}, "assets of item a is missing"),
        ({}, {"properties": None}, "properties of item a is missing"),
        ({"data": asset(bands="B2")}, {}, "bands of asset data of item a is no list"),
        ({"data": asset(bands=["B2"])}, {}, "a band of asset data of item a is no object"),
        ({"data": asset("zip+https://a.example/b.zip!c.tif")}, {}, "can't be opened"),
        ({"data": asset("/vsicurl/http://127.0.0.1:9/x.tif")}, {}, "can't be opened"),
    ],
)
def test_malformed_items(tmp_path, assets, changes, sentence):
    assert sentence in refusal(open_images, stac(tmp_path, assets, **changes))[1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"type": "FeatureCollection", "features": [3]}', "an item is no object"),
        ('{"type": ["x"]}', "is no STAC item collection"),
        ("[" * 100_000, "nested too deeply"),
        ("\x00\xff", "is not JSON"),
    ],
)
def test_malformed_collections(tmp_path, text, sentence):
    path = tmp_path / "items.json"
    path.write_text(text)
    assert sentence in refusal(open_images, path)[1]


def polygon(ring, **more):
    return json.dumps({"type": "Polygon", "coordinates": [ring], **more})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (polygon([["a", "b"], *SQUARE[1:4], ["a", "b"]]), "no finite number"),
        (polygon([[None, 1], *SQUARE[1:4], [None, 1]]), "no finite number"),
        (polygon([[float("nan"), 1], *SQUARE[1:]]), "no finite number"),
        (polygon([[10**400, 1], *SQUARE[1:]]), "no finite number"),
        (polygon([3, 4]), "no pair of numbers"),
        (polygon(SQUARE[:4]), "not closed"),
        (polygon([SQUARE[0], SQUARE[1], SQUARE[0]]), "fewer than four"),
        (polygon([[x * 1e4, y * 1e4] for x, y in SQUARE]), "lies nowhere"),
        ('{"type": "Polygon", "coordinates": 3}', "without a ring"),
        ('{"type": "MultiPolygon", "coordinates": []}', "holds no polygon"),
        ('{"type": "MultiPolygon", "coordinates": [[]]}', "without a ring"),
        ('{"coordinates": [1, 2]}', "holds no polygon"),
        ('{"type": "FeatureCollection", "features": null}', "holds no polygon"),
        ('{"type": "GeometryCollection", "geometries": [' * 300 + "]}" * 300, "holds no polygon"),
        ('{"a":' * 100_000, "nested too deeply"),
        (polygon(SQUARE, crs=3).replace("Polygon", "Point"), "holds no polygon"),
        (
            polygon(SQUARE, crs={"properties": {"name": "+init=/etc/passwd"}}),
            "no coordinate system",
        ),
    ],
)
def test_malformed_areas(tmp_path, text, sentence):
    path = tmp_path / "area.geojson"
    path.write_text(text)
    assert sentence in refusal(open_area, path)[1]


def test_a_good_area_is_read(tmp_path):
    path = tmp_path / "area.geojson"
    path.write_text(polygon(SQUARE, crs={"properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}))
    open_area(path)


# ---- cubes


def cube(folder, side=64, chunk=32, **changes):
    """A cube whose s1 says something else of itself; it holds no pixel."""
    import zarr

    group = zarr.open_group(folder, mode="w", zarr_format=3)
    group.attrs.update({"crs": "EPSG:3067", "transform": [0.001, 0, 4e5, 0, -0.001, 6.9e6]})
    for name, bands, kind in (("s1", 4, "int16"), ("s2", 11, "uint16")):
        shape, chunks = (12, bands, side, side), (1, bands, chunk, chunk)
        group.create_array(name, shape=shape, chunks=chunks, dtype=kind, fill_value=0)
    path = folder / "s1" / "zarr.json"
    path.write_text(changes.pop("text", json.dumps(json.loads(path.read_text()) | changes)))
    return folder


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"side": 10**7, "chunk": 2}, "in chunks of (1, 4, 2, 2): write it in chunks"),
        ({"side": 2**62}, "in chunks of (1, 4, 32, 32): write it in chunks"),
        ({"side": 10**7, "chunk": 10**7}, "has chunks of"),
        ({"shape": [12, 4, 2**70, 64]}, "of the same size"),
        ({"shape": [12, 4, -1, 64]}, "s1 is no Zarr array"),
        ({"shape": "x"}, "s1 is no Zarr array"),
        ({"shape": [12, 4] + [64] * 1000}, "s1 is no Zarr array"),
        ({"codecs": [{"name": "evil"}]}, "s1 is no Zarr array"),
        ({"data_type": "object"}, "s1 is no Zarr array"),
        ({"text": "[" * 10**6}, "s1 is no Zarr array"),
    ],
)
def test_what_a_cube_says_of_itself(tmp_path, given, sentence):
    assert sentence in refusal(open_images, cube(tmp_path / "cube.zarr", **given))[1]


# ---- something else in a file's place


def _pipe(path):
    os.mkfifo(path)


def _device(path):
    path.symlink_to("/dev/zero")


def _socket(path):
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have 107 characters
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("make", [_pipe, _device, _socket])
@pytest.mark.parametrize(
    ("name", "opener"),
    [
        ("a_S1_00.tif", read_chip),
        ("x_agbm.tif", read_chip),
        ("area.geojson", open_area),
        ("items.json", open_images),
        ("s.tar.gz", check),
        ("s.zip", check),
        ("model.pth", read_pth),
        ("checkpoint_00001_000000.pt", read_own),
    ],
)
def test_only_regular_files_are_read(tmp_path, make, name, opener):
    make(tmp_path / name)
    refusal(opener, tmp_path / name)


@pytest.mark.parametrize("make", [_pipe, _device, _socket])
def test_no_pipe_in_place_of_an_image_or_a_cube(tmp_path, make):
    make(tmp_path / "S2_00.tif")
    assert "not a file" in refusal(open_images, tmp_path)[1]
    (tmp_path / "cube.zarr").mkdir()
    make(tmp_path / "cube.zarr" / "zarr.json")
    assert "not a file" in refusal(open_images, tmp_path / "cube.zarr")[1]


# ---- submissions


def test_members_that_are_no_files(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        entry = tarfile.TarInfo("x_agbm.tif")
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    assert "is a folder, not a map" in refusal(check, tmp_path / "s.tar")[1]
    with tarfile.open(tmp_path / "d.tar", "w") as tar:
        entry = tarfile.TarInfo("x_agbm.tif")
        entry.type = tarfile.CHRTYPE
        tar.addfile(entry)
    assert "a device" in refusal(check, tmp_path / "d.tar")[1]


@pytest.mark.parametrize(
    ("offset", "value", "sentence"),
    [(8, 1, "is encrypted"), (10, 99, "compressed in an unknown way")],
)
def test_members_that_zipfile_does_not_read(tmp_path, offset, value, sentence):
    path = tmp_path / "s.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_agbm.tif", b"II*\0")
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, content.index(b"PK\1\2") + offset, value)
    path.write_bytes(content)
    assert sentence in refusal(check, path)[1]


# ---- pickles


def zip_of(path, program, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        for name, content in entries.items():
            archive.writestr(f"archive/data/{name}", content)
    return path


PROGRAMS = {
    "deep tuple": (b"\x80\x02)" + b"\x85" * 2_000_000 + b".", "nests more than 500 deep"),
    "doubling tuple": (b"\x80\x02)" + b"2\x86" * 60 + b".", "a tuple of endless size"),
    "many steps": (b"\x80\x02]" + b"N0" * 400_000 + b".", "more than 600,000 steps"),
}


@pytest.mark.parametrize("opener", [read_pth, read_own])
@pytest.mark.parametrize("kind", PROGRAMS)
def test_pickles_that_would_crash_or_hang(tmp_path, opener, kind):
    program, sentence = PROGRAMS[kind]
    assert sentence in refusal(opener, zip_of(tmp_path / "model.pth", program))[1]


def test_a_module_that_contains_itself(tmp_path):
    from torch import nn

    module = nn.Sequential(nn.Linear(2, 2))
    module._modules["again"] = module
    module._modules["twice"] = module
    torch.save(module, tmp_path / "model.pth")
    start = time.monotonic()
    from biomassters.network.reference.checkpoint_file import read_checkpoint

    assert set(read_checkpoint(tmp_path / "model.pth")) == {"0.weight", "0.bias"}
    assert time.monotonic() - start < MOST_SECONDS


def test_unknown_encoders_and_addresses_of_models(tmp_path):

    from biomassters.network.encoder import resolve_backbone
    from biomassters.network.reference.convert import find_backbone

    for key in ("stages.0.weight", "conv_stem.weight"):
        start = time.monotonic()
        with pytest.raises(BadInputError, match="name the backbone"):
            find_backbone({key: torch.Size((7, 15, 3, 3))}, "weights.pth")
        print(f"| encoder {key} | {time.monotonic() - start:.2f} |")  # noqa: T201
        # After the last look at the clock one more model may be built.
        assert time.monotonic() - start < 2 * MOST_SECONDS
    for name in ("hf-hub:timm/resnet18.a1_in1k", "local-dir:/etc", "hf_hub:x/y"):
        start = time.monotonic()
        with pytest.raises(BadInputError, match="knows no backbone"):
            resolve_backbone(name)
        assert time.monotonic() - start < MOST_SECONDS


# ---- memory, each in a process of its own


def declared_tif(path):
    """A GeoTIFF of 200,000 × 200,000 pixels that holds none of them."""
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=200_000, width=200_000, dtype="float32",
        tiled=True, blockxsize=16384, blockysize=16384, sparse_ok=True, compress="deflate",
    ):  # fmt: skip
        pass


def sparse_file(path):
    with path.open("wb") as file:
        file.truncate(200 * 10**9)


def zip_bomb(path, name="x_agbm.tif"):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(640):
            member.write(bytes(10**6))


def foreign_zip_bomb(path):
    zip_bomb(path, "readme.txt")


def _tar_header(entry):
    return entry.tobuf(tarfile.USTAR_FORMAT)


def tgz_bomb(path, kind=tarfile.REGTYPE, name="x_agbm.tif"):
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = 640 * 10**6, kind
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(_tar_header(entry))
        for _ in range(640):
            file.write(bytes(10**6))


def foreign_tgz_bomb(path):
    tgz_bomb(path, name="readme.txt")


def long_header_tgz(path):
    tgz_bomb(path, tarfile.XHDTYPE)


def tiff_bomb(path):
    """A map of zeros, 30,000 × 30,000, in a small archive."""
    memory = io.BytesIO()
    with rasterio.io.MemoryFile() as file:
        with file.open(
            driver="GTiff", count=1, height=30_000, width=30_000, dtype="float32",
            compress="deflate", tiled=True, sparse_ok=True,
        ):  # fmt: skip
            pass
        memory.write(file.read())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_agbm.tif", memory.getvalue())


def stride_zero(path):

    torch.save({"a": torch.zeros(1, dtype=torch.float16).expand(2**39)}, path)


def shared_views(path):

    base = torch.zeros(2**20, dtype=torch.float16)
    torch.save({f"k{index}": base.view(-1) for index in range(1200)}, path)


def _own(weights, path):

    torch.save({"weights": weights, "weights_crc": 0, "format": 1}, path)


def own_stride_zero(path):

    _own({"a": torch.zeros(1).expand(2**33)}, path)


def own_compressed(path):

    _own({"a": torch.zeros(6 * 10**8 // 4)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for entry, content in entries:
            archive.writestr(entry.filename, content)


BOMBS = {
    "declared TIFF": (declared_tif, "a_S1_00.tif", read_chip, "MiB|declares"),
    "sparse file": (sparse_file, "a_S1_00.tif", read_chip, "200,000,000,000 bytes"),
    "zip bomb": (zip_bomb, "s.zip", check, "640,000,000 bytes"),
    "foreign zip bomb": (foreign_zip_bomb, "s.zip", check, "belongs to no test chip"),
    "tgz bomb": (tgz_bomb, "s.tar.gz", check, "640,000,000 bytes"),
    "foreign tgz bomb": (foreign_tgz_bomb, "s.tar.gz", check, "belongs to no test chip"),
    "tar with a long header": (long_header_tgz, "s.tar.gz", check, "a header of 640,000"),
    "TIFF bomb": (tiff_bomb, "s.zip", check, "declares 1 bands of 30,000"),
    "stride 0": (stride_zero, "model.pth", read_pth, "more numbers than its storage"),
    "views of one storage": (shared_views, "model.pth", read_pth, "share each other's"),
    "own, stride 0": (own_stride_zero, "c.pt", read_own, "bytes of memory"),
    "own, compressed": (own_compressed, "c.pt", read_own, "is compressed"),
}
# One process imports the libraries; each that opens a file forks from it.
REFUSE = r"""
import os, re, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_hostile_files as tests
import biomassters.training.checkpoint, biomassters.submission.check
from biomassters.errors import BadInputError

def kilobytes(name):
    status = Path("/proc/self/status").read_text()
    return int(re.search(name + r":\s+(\d+)", status)[1])

def refuse(opener, path):
    # Above what the libraries take. Not getrusage: it inherits its parent's largest size.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = kilobytes("VmRSS"), time.monotonic()
    try:
        opener(Path(path))
    except BadInputError as error:
        print(time.monotonic() - start, kilobytes("VmHWM") - before, error, flush=True)

for line in sys.stdin:
    opener, path = line.rstrip("\n").split(" ", 1)
    if not os.fork():
        signal.alarm(120)
        try:
            refuse(getattr(tests, opener), path)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(0)
    os.wait()
    print("", flush=True)
"""


@pytest.fixture(scope="module")
def refused():
    """Opens a file in a process of its own; what that tells: ``refused(opener, path)``."""
    process = subprocess.Popen(
        [sys.executable, "-c", REFUSE, str(Path(__file__).parent)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def refused(opener, path):
        process.stdin.write(f"{opener.__name__} {path}\n")
        process.stdin.flush()
        told = process.stdout.readline().strip()
        assert told, "it was not refused"
        process.stdout.readline()
        return told

    yield refused
    process.communicate(timeout=60)


@pytest.mark.parametrize("kind", BOMBS)
def test_files_that_would_fill_the_memory(refused, tmp_path, kind):
    make, name, opener, sentence = BOMBS[kind]
    path = tmp_path / name
    make(path)
    seconds, kilobytes, said = refused(opener, path).split(" ", 2)
    print(f"| {kind} | {float(seconds):.2f} | {int(kilobytes) // 1024} MiB | {said} |")  # noqa: T201
    assert re.search(sentence, said)
    assert float(seconds) < MOST_SECONDS
    assert int(kilobytes) * 1024 < MOST_BYTES


def test_nothing_of_a_pickle_is_run_by_these_checks(tmp_path):
    mark = tmp_path / "executed"
    program = b"cos\nsystem\n(S'touch %s'\ntR." % str(mark).encode()
    refusal(read_own, zip_of(tmp_path / "c.pt", program))
    refusal(read_pth, zip_of(tmp_path / "c.pt", program))
    assert not mark.exists()
    pickle.loads(program)
    assert mark.exists()
