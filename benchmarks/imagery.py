"""A year of scenes from loopback to a cube, against plain rasterio on the files that it used.

    uv run python benchmarks/imagery.py --json
    uv run python benchmarks/imagery.py --size 512 --months 2 --json

Ten scenes of Sentinel-2 with clouds and ten of Sentinel-1 a month, as COGs on a server of ranges in
a process of its own. ``plain_ratio`` is the processor time of search, choice and composition,
divided by that of reading and warping every used file to the cube's grid with rasterio alone
(WarpedVRT, nearest) and as many threads, in turn in one run. ``bytes_ratio`` is bytes sent divided
by the used files' size. The last line is JSON.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WEST, NORTH, CRS = 399960.0, 6900000.0, "EPSG:32635"
BANDS = {"B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10, "B8A": 20,
         "B11": 20, "B12": 20, "SCL": 20}  # fmt: skip


def main() -> None:
    """Write scenes, serve them, measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
    parser.add_argument("--size", type=int, default=2048, help="pixels a side")
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--scenes", type=int, default=10, help="of each sensor in a month")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1, help="turns of the two")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="imagery-") as folder:
        place = Path(folder)
        alone(write_scenes, place, arguments.size, arguments.scenes)
        ours, theirs = context.Pipe()
        server = context.Process(target=serve, args=(place, theirs), daemon=True)
        server.start()
        url = ours.recv()
        write_items(place, url, arguments)
        turns = []
        for turn in range(arguments.rounds):
            found = alone(compose, place, place / f"cube{turn}.zarr", arguments)
            sent = asked(url)
            plain_s = alone(read_plainly, found["used"], place, arguments)
            found |= {"bytes_read": sent, "plain_cpu_s": plain_s,
                      "plain_ratio": round(found["cpu_s"] / plain_s, 3),
                      "bytes_ratio": round(sent / used_bytes(found["used"], place), 3)}  # fmt: skip
            asked(url)
            del found["used"]
            print(found, flush=True)
            turns.append(found)
        server.terminate()
    best = min(turns, key=lambda one: one["plain_ratio"])
    if arguments.json:
        print(json.dumps(best))


def alone(function: Any, *arguments: Any) -> Any:
    """Call a function in a fresh process, so that peak and processor time are its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def write_scenes(folder: Path, size: int, count: int) -> None:
    """Scenes of one month; the server gives them under every month's address."""
    import numpy as np
    from scipy.ndimage import zoom

    random = np.random.default_rng(0)

    def smooth(pixels: int, grain: int) -> Any:
        coarse = random.normal(size=(pixels // grain + 2,) * 2)
        return zoom(coarse, grain, order=1)[:pixels, :pixels]

    for number in range(count):
        cloud = smooth(size // 2, 32) > 0.2
        ground = 1300 + 150 * smooth(size, 8) + 25 * random.normal(size=(size, size))
        for key, pixel in BANDS.items():
            values = ground[:: pixel // 10, :: pixel // 10] + 40 * list(BANDS).index(key)
            if key == "SCL":
                values = np.where(cloud, 9, 4)
            write_cog(folder / f"s2_{number}/{key}.tif", values, pixel)
        for key, level in (("vv", 0.1), ("vh", 0.025)):
            power = level * random.gamma(4, 0.25, (size, size))
            write_cog(folder / f"s1_{number}/{key}.tif", power.astype(np.float32), 10)


def write_cog(path: Path, values: Any, pixel: float) -> None:
    """A COG with tiles of 512 pixels, deflated, as the catalogues have them."""
    import numpy as np
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(exist_ok=True)
    dtype = "float32" if values.dtype == np.float32 else "uint8" if "SCL" in path.name else "uint16"
    with rasterio.open(
        path, "w", driver="COG", count=1, height=values.shape[0], width=values.shape[1],
        dtype=dtype, crs=CRS, transform=from_origin(WEST, NORTH, pixel, pixel), blocksize=512,
        compress="deflate", overview_resampling="nearest",
    ) as file:  # fmt: skip
        file.write(values.astype(dtype), 1)


def write_items(folder: Path, url: str, arguments: argparse.Namespace) -> None:
    """Items as Planetary Computer serves them."""
    from rasterio.warp import transform_bounds

    side = 10 * arguments.size
    box = transform_bounds(CRS, "EPSG:4326", WEST, NORTH - side, WEST + side, NORTH)
    kind = "image/tiff; application=geotiff; profile=cloud-optimized"
    items = []
    for month in range(arguments.months):
        number = (month + 8) % 12 + 1
        for scene in range(arguments.scenes):
            day = f"{2020 + (number < 9)}-{number:02}-{1 + 2 * scene:02}"
            for sensor, keys in (("s2", tuple(BANDS)), ("s1", ("vv", "vh"))):
                about = {"s2:processing_baseline": "05.09", "s2:mgrs_tile": "35VLJ"}
                if sensor == "s1":
                    about = {"sat:orbit_state": ("ascending", "descending")[scene % 2]}
                base = f"{url}/m{month}/{sensor}_{scene}"
                items.append({
                    "type": "Feature", "id": f"{sensor}_{month}_{scene}", "bbox": list(box),
                    "collection": "sentinel-2-l2a" if sensor == "s2" else "sentinel-1-rtc",
                    "properties": {"datetime": f"{day}T09:50:31Z", **about,
                                   "constellation": f"sentinel-{sensor[1]}"},
                    "assets": {key: {"href": f"{base}/{key}.tif", "type": kind} for key in keys},
                })  # fmt: skip
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))


def compose(folder: Path, cube: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Search, choice and composition; what they cost."""
    from biomassters.imagery.cube_plan import plan_cube
    from biomassters.imagery.cube_writer import write_cube
    from biomassters.imagery.options import ImageryOptions
    from biomassters.imagery.search import plan_search

    side = 10 * arguments.size
    options = ImageryOptions(
        bounds=(WEST, NORTH - side, WEST + side, NORTH), bounds_crs=CRS, year=2020,
        catalogue_url=str(folder / "items.json"), reader_threads=arguments.threads,
        largest_km2=1e5,
    )  # fmt: skip
    most, ended = [0], threading.Event()
    watcher = threading.Thread(target=count_files, args=(most, ended))
    watcher.start()
    start, begun = time.perf_counter(), processor_s()
    scratch = cube.with_suffix(".scratch")
    scratch.mkdir()
    choice = plan_cube(plan_search(options).run(), options, scratch)
    record = write_cube(choice, cube, scratch, options)
    seconds, cpu_s = time.perf_counter() - start, processor_s() - begun
    ended.set()
    watcher.join()
    used = [
        (month["month"], scene["id"].split("_")[2], sensor)
        for month in record["months"]
        for sensor in ("s1", "s2")
        for scene in month[sensor]["scenes"]
    ]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 1), "cpu_s": round(cpu_s, 1), "open_files": most[0],
            "peak_memory_mb": round(peak_mb), "used": used}  # fmt: skip


def processor_s() -> float:
    """Of this process, its threads included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def count_files(most: list[int], ended: threading.Event) -> None:
    """The largest number of files that this process has open."""
    while not ended.wait(0.05):
        most[0] = max(most[0], len(list(Path("/proc/self/fd").iterdir())))


def read_plainly(used: list[Any], folder: Path, arguments: argparse.Namespace) -> float:
    """Processor time of reading the used files on the cube's grid, and nothing else."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.vrt import WarpedVRT

    items = json.loads((folder / "items.json").read_text())["features"]
    hrefs = {item["id"]: [asset["href"] for asset in item["assets"].values()] for item in items}
    grid = {"crs": CRS, "transform": from_origin(WEST, NORTH, 10, 10),
            "width": arguments.size, "height": arguments.size}  # fmt: skip

    def read(href: str) -> float:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            rasterio.open(href) as file,
            WarpedVRT(file, **grid) as warped,
        ):
            return float(warped.read(1)[0, 0])

    begun = processor_s()
    with ThreadPoolExecutor(arguments.threads) as pool:
        for month, scene, sensor in used:
            list(pool.map(read, hrefs[f"{sensor}_{month}_{scene}"]))
    return round(processor_s() - begun, 1)


def used_bytes(used: list[Any], folder: Path) -> int:
    """Size of the used scenes' files."""
    return sum(
        path.stat().st_size
        for _, scene, sensor in used
        for path in (folder / f"{sensor}_{scene}").iterdir()
    )


def asked(url: str) -> int:
    """Bytes that were sent since the last question."""
    with urllib.request.urlopen(f"{url}/sent") as answer:
        return int(answer.read())


def serve(folder: Path, pipe: Any) -> None:
    """Files by range, whatever month stands before them; ``/sent`` tells and forgets the bytes."""
    sent, lock = [0], threading.Lock()

    class Ranges(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            if self.path == "/sent":
                with lock:
                    content, sent[0] = str(sent[0]).encode(), 0
                return self._send(200, content, len(content), body)
            path = folder.joinpath(*self.path.strip("/").split("/")[1:])
            if not path.is_file():
                return self._send(404, b"", 0, body)
            size = path.stat().st_size
            first, last = 0, size - 1
            if wanted := self.headers.get("Range", ""):
                begin, _, end = wanted.removeprefix("bytes=").partition("-")
                first, last = int(begin), min(int(end or last), last)
            content = b""
            if body:
                with path.open("rb") as file:
                    file.seek(first)
                    content = file.read(last + 1 - first)
                with lock:
                    sent[0] += len(content)
            return self._send(
                206 if wanted else 200, content, last + 1 - first, body,
                f"bytes {first}-{last}/{size}",
            )  # fmt: skip

        def _send(self, code: int, content: bytes, length: int, body: bool, part: str = "") -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(length))
            self.send_header("Accept-Ranges", "bytes")
            if part:
                self.send_header("Content-Range", part)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing on the console."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    server.daemon_threads = True
    pipe.send(f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


if __name__ == "__main__":
    main()
