"""The cube of a year: composites written block by block, so that a kill costs the block in work.

A block is 1,024 rows of 2,048 pixels of one month and sensor: a scene's file is opened for few of
them, and memory is that of any cube. What is done stands in a journal; the cube takes its name when
it is whole. ``regions.inputs.cube`` reads it, as xarray does.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.windows import Window

from biomassters import __version__
from biomassters.chips.bands import (
    MONTH_COUNT,
    MONTH_NAMES,
    S1,
    S2,
    SENSORS,
)
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.imagery.asset_names import CLOUD_PROBABILITY, SCENE_CLASSES
from biomassters.imagery.composites import (
    Composite,
    Offsets,
    coarse_grid,
    compose_s1,
    compose_s2,
)
from biomassters.imagery.options import ImageryOptions
from biomassters.imagery.pixel_grid import clipped
from biomassters.imagery.radiometry import Offset
from biomassters.imagery.scene_choice import Choice
from biomassters.imagery.scene_reader import SceneError, tally
from biomassters.imagery.scenes import Scene
from biomassters.io.files import RowJournal, publish_folder, require_space, sync_all
from biomassters.messages import readable_bytes
from biomassters.simulation.simulated_region import NOTE

log = logging.getLogger(__name__)

CHUNK = 512  # pixels, of one month and all bands
_BLOCK = (2 * CHUNK, 4 * CHUNK)  # rows and columns: a month of ten scenes in some 500 MB
_LOOK = "offset "  # of journal keys
_JOB = "job"


@dataclass(frozen=True)
class _Task:
    """A month of a sensor in one block."""

    month: int
    sensor: str
    window: Window

    @property
    def key(self) -> str:
        return f"{self.sensor} {self.month:02d} {self.window.row_off} {self.window.col_off}"


def check_place(cube: Path, options: ImageryOptions) -> None:
    """Refuse a cube that is there, or a place that can't hold one.

    Raises:
        BadInputError: Either.
    """
    if cube.exists() and not options.overwrite:
        raise BadInputError(
            f"{cube} exists: add '--params imagery.overwrite=true' to replace it, or choose "
            "another place with 'imagery_cube=PATH'."
        )
    if cube.suffix != ".zarr":
        raise BadInputError(f"{cube}: give the cube a name that ends in .zarr.")


def write_cube(
    choice: Choice, cube: Path, scratch: Path, options: ImageryOptions
) -> dict[str, Any]:
    """Compose what isn't composed yet, and give the cube its name.

    Args:
        choice: Grid and scenes.
        cube: The folder; replaced whole.
        scratch: Where the journal lies.
        options: Threads, incidence angle, contradictions.

    Returns:
        The record: what every month was made of, ready for JSON and without addresses.

    Raises:
        BadInputError: The disk is too small, the network fails, or access is refused.
    """
    partial = cube.with_name(f".{cube.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with RowJournal(scratch / "journal.jsonl", "composing images") as journal:
        job = _fingerprint(choice, options)
        if journal.entries.get(_JOB) != job or not partial.is_dir():
            journal.restart()
            shutil.rmtree(partial, ignore_errors=True)
            # Half of what integers take, as images of forests compress.
            require_space(cube.parent, _pixels(choice) * 15, f"The cube {cube}")
            _create(partial, choice)
            journal.append(_JOB, job)
        _compose(choice, partial, journal, options)
        record = _record(choice, journal.entries, options)
        _finish(partial, record, choice)
        publish_folder(partial, cube)
        journal.restart()
    return record


def _fingerprint(choice: Choice, options: ImageryOptions) -> str:
    scenes = [
        [month, sensor, [scene.identity() for scene in scenes]]
        for (month, sensor), scenes in sorted(choice.scenes.items())
    ]
    grid = choice.grid
    facts = [
        __version__, scenes, grid.crs.to_wkt(), list(grid.transform), list(grid.shape),
        choice.area.identity(), options.on_contradiction, options.incidence_angle_deg,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _pixels(choice: Choice) -> int:
    bands = {sensor.name: len(sensor.bands) for sensor in SENSORS}
    images = sum(bands[sensor] for _, sensor in choice.scenes) / 15
    return int(choice.grid.height * choice.grid.width * images)


def _create(folder: Path, choice: Choice) -> None:
    """Empty arrays: Zarr's metadata alone."""
    import zarr
    from zarr.codecs import BloscCodec

    grid = choice.grid
    group = zarr.create_group(str(folder))
    about: dict[str, dict[str, Any]] = {
        "s1": {"long_name": "Sentinel-1 backscatter", "units": "dB",
               "scale_factor": S1.scale, "_FillValue": S1.fill},
        "s2": {"long_name": "Sentinel-2 reflectance times 10000, and cloud probability",
               "units": "1"},
    }  # fmt: skip
    for sensor in SENSORS:
        radar = sensor is S1
        group.create_array(
            sensor.name,
            shape=(MONTH_COUNT, len(sensor.bands), *grid.shape),
            chunks=(1, len(sensor.bands), min(CHUNK, grid.height), min(CHUNK, grid.width)),
            dtype="int16" if radar else "uint16",
            fill_value=S1.fill if radar else 0,
            compressors=[BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")],
            dimension_names=("month", f"{sensor.name}_band", "y", "x"),
            attributes=about[sensor.name],
        )
    x = grid.transform.c + grid.transform.a * (np.arange(grid.width) + 0.5)
    y = grid.transform.f + grid.transform.e * (np.arange(grid.height) + 0.5)
    for name, values in (("x", x), ("y", y)):
        array = group.create_array(
            name, shape=values.shape, dtype="float64", dimension_names=(name,),
            chunks=values.shape, attributes={"units": "m"},
        )  # fmt: skip
        array[:] = values


def _tasks(choice: Choice) -> list[_Task]:
    """Block by block of each month; those without anything of the area are left out."""
    height, width = choice.grid.shape
    windows = []
    for top in range(0, height, _BLOCK[0]):
        for left in range(0, width, _BLOCK[1]):
            window = clipped(Window(left, top, *_BLOCK[::-1]), height, width)
            assert window is not None
            if choice.area.inside(choice.grid, window).any():
                windows.append(window)
    return [
        _Task(month, sensor, window)
        for month, sensor in sorted(choice.scenes)
        for window in windows
    ]


def _compose(choice: Choice, folder: Path, journal: RowJournal, options: ImageryOptions) -> None:
    import zarr

    arrays = {name: zarr.open_array(str(folder), path=name, mode="r+") for name in ("s1", "s2")}
    offsets = Offsets(coarse_grid(choice.grid), correct=options.on_contradiction == "correct")
    for key, value in journal.entries.items():
        if key.startswith(_LOOK):
            found, contradiction = value
            offsets.found[key.removeprefix(_LOOK)] = (
                None if found is None else Offset(*found),
                contradiction,
            )
    offsets.settle_unstated(scene for scenes in choice.scenes.values() for scene in scenes)
    tasks = _tasks(choice)
    done = sum(task.key in journal.entries for task in tasks)
    lost = dict(_lost(journal.entries))
    with (
        Progress("composing months", len(tasks), done=done) as progress,
        ThreadPoolExecutor(options.reader_threads, thread_name_prefix="scenes") as pool,
    ):
        for task in tasks:
            if task.key in journal.entries:
                continue
            composite = _composed(task, choice, offsets, lost, pool, options)
            _write(arrays[task.sensor], task, composite, folder)
            for scene, (offset, contradiction) in offsets.found.items():
                if _LOOK + scene not in journal.entries:
                    values = None if offset is None else [offset.counts, offset.gain, offset.why]
                    journal.append(_LOOK + scene, [values, contradiction])
            journal.append(
                task.key,
                {"pixels": composite.pixels, "seen": composite.seen, "clear": composite.clear,
                 "lost": lost},
            )  # fmt: skip
            progress.note(MONTH_NAMES[task.month], f"{readable_bytes(tally.bytes)} of pixels read")
            progress.update()


def _lost(entries: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for value in entries.values():
        if isinstance(value, dict):
            yield from value["lost"].items()


def _composed(
    task: _Task,
    choice: Choice,
    offsets: Offsets,
    lost: dict[str, list[str]],
    pool: ThreadPoolExecutor,
    options: ImageryOptions,
) -> Composite:
    """A block; a scene that can't be read is noted and the others are put together without it."""
    part = choice.grid.part(task.window)
    while True:
        scenes: list[Scene] = [
            scene for scene in choice.scenes[task.month, task.sensor] if scene.id not in lost
        ]
        try:
            if task.sensor == S1.name:
                return compose_s1(scenes, part, options.incidence_angle_deg, pool.map)
            return compose_s2(scenes, part, offsets.of, pool.map)
        except SceneError as error:
            if not error.of_scene:
                raise BadInputError(
                    f"{error}: check the network and the credentials, then run again; finished "
                    "blocks are kept."
                ) from None
            lost[error.scene] = [error.kind, str(error)]
            log.warning("Scene %s is left out from here on: %s.", error.scene, error)


def _write(array: Any, task: _Task, composite: Composite, folder: Path) -> None:
    rows, columns = task.window.toslices()
    array[task.month, :, rows, columns] = composite.values
    chunks = folder / task.sensor / "c" / str(task.month) / "0"
    numbers = [
        (row, column)
        for row in range(rows.start // CHUNK, -(-rows.stop // CHUNK))
        for column in range(columns.start // CHUNK, -(-columns.stop // CHUNK))
    ]
    paths = [chunks / str(row) / str(column) for row, column in numbers]
    sync_all(path for path in paths if path.exists())  # one of fill values alone is no file


def _record(choice: Choice, entries: dict[str, Any], options: ImageryOptions) -> dict[str, Any]:
    """What the cube was made of, by month and sensor."""
    total = sum(
        int(task.window.height * task.window.width)
        for task in _tasks(choice)
        if (task.month, task.sensor) == min(choice.scenes)
    )
    months: dict[int, dict[str, Any]] = {}
    for (month, sensor), scenes in sorted(choice.scenes.items()):
        blocks = [
            value for key, value in entries.items() if key.startswith(f"{sensor} {month:02d} ")
        ]
        pixels: dict[str, int] = {}
        for block in blocks:
            for scene, count in block["pixels"].items():
                pixels[scene] = pixels.get(scene, 0) + count
        seen = sum(block["seen"] for block in blocks)
        clear = sum(block["clear"] for block in blocks)
        used = [scene for scene in scenes if pixels.get(scene.id)]
        facts: dict[str, Any] = {
            "scenes": [_scene_facts(scene, pixels[scene.id], entries, options) for scene in used],
            "share_with_data": round(seen / total, 6),
        }
        if sensor == S2.name:
            facts["share_clear"] = round(clear / total, 6)
            facts["cloud_probability_from"] = sorted({_clp_origin(scene) for scene in used})
        else:
            facts["orbits"] = sorted({str(scene.orbit) for scene in used})
        months.setdefault(month, {"month": month, "name": MONTH_NAMES[month]})[sensor] = facts
    grid = choice.grid
    lost = dict(_lost(entries))
    every = [scene for scenes in choice.scenes.values() for scene in scenes]
    return {
        "year": f"September {every[0].first_year} - August {every[0].first_year + 1}",
        "first_year": every[0].first_year,
        "crs": grid.crs.to_string(),
        "pixels": list(grid.shape),
        "simulated": any(scene.simulated for scene in every),
        "sentinel1": "sigma0 in dB, mean power of the month's scenes by orbit"
        + ("" if options.incidence_angle_deg else "; gamma0 where scenes are"),
        "months": [months[month] for month in sorted(months)],
        "lost": {scene: {"kind": kind, "reason": reason} for scene, (kind, reason) in lost.items()},
    }


def _scene_facts(
    scene: Scene, pixels: int, entries: dict[str, Any], options: ImageryOptions
) -> dict[str, Any]:
    facts: dict[str, Any] = {"id": scene.id, "pixels": pixels}
    if scene.sensor == S2.name:
        (counts, gain, why), contradiction = entries[_LOOK + scene.id]
        facts |= {"counts_taken_off": counts, "gain": gain, "because": why}
        if contradiction is not None:
            facts["contradiction"] = contradiction
    else:
        angle = scene.incidence_deg
        stated = options.incidence_angle_deg if angle is None else angle
        facts |= {"orbit": scene.orbit, "incidence_angle_deg": stated or None}
    return facts


def _clp_origin(scene: Scene) -> str:
    if CLOUD_PROBABILITY in scene.files:
        return "cloud probability of the product"
    return "scene classes" if SCENE_CLASSES in scene.files else "nothing (255)"


def _finish(folder: Path, record: dict[str, Any], choice: Choice) -> None:
    import zarr

    group = zarr.open_group(str(folder), mode="r+")
    present = np.zeros((MONTH_COUNT, len(SENSORS)), bool)
    for month in record["months"]:
        for number, sensor in enumerate(SENSORS):
            facts = month.get(sensor.name)
            present[month["month"], number] = bool(facts and facts["share_with_data"])
    if "present" in group:
        del group["present"]
    array = group.create_array(
        "present", shape=present.shape, dtype="bool", dimension_names=("month", "sensor"),
        chunks=present.shape,
    )  # fmt: skip
    array[:] = present
    group.attrs.update(
        {
            "crs": choice.grid.crs.to_wkt(),
            "transform": list(choice.grid.transform)[:6],
            "imagery": record,
        }
    )
    if record["simulated"]:
        (folder / NOTE).write_text("{}\n")  # as beside simulated regions: mapping looks for it
    sync_all(folder.rglob("zarr.json"))
