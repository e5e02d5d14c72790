"""A month of one sensor made of its scenes, in the pixels of any grid.

Sentinel-2: at each pixel the first scene, in the order of the choice, that sees it clearly, else
the first that has data; all bands of a pixel come from one scene, and what no pixel needs is not
read. Sentinel-1: the mean power of all scenes of an orbit, as the months of BioMassters look (its
speckle is that of about ten scenes). ``Offsets`` settles what is taken off a scene's counts,
``scene_choice`` orders scenes, ``cube_writer`` goes through blocks.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window

from biomassters.chips.bands import CLP_NONE, S1, S2
from biomassters.imagery import radiometry
from biomassters.imagery.asset_names import CLOUD_PROBABILITY, SCENE_CLASSES
from biomassters.imagery.pixel_grid import Grid, slices_in
from biomassters.imagery.radiometry import UNSTATED, Offset, checked_offset, stated_offset
from biomassters.imagery.scene_reader import SceneError, read_band, tags_of
from biomassters.imagery.scenes import Scene

log = logging.getLogger(__name__)

_COARSE = 8  # of the cube's pixels: 80 m
_FEWEST_COARSE = 4096
_TILE = 512  # pixels: parts of a block in which a scene has nothing to give are not read
_SWATH_BAND = "B2"
Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""``map``, or that of a pool of threads."""
OffsetOf = Callable[[Scene], Offset | None]
"""What is to be taken off a scene's counts; None: the scene can't be used."""


@dataclass(frozen=True, eq=False)
class Composite:
    """A month of a sensor.

    Attributes:
        values: Sentinel-2 uint16 [11, h, w], 0 and CLP 255 without data; Sentinel-1 int16
            [4, h, w] in 0.01 dB, −32768 without data.
        pixels: By scene, those that one of Sentinel-2 gave, or that a mean of Sentinel-1 holds.
        seen: Pixels with data.
        clear: Of Sentinel-2, those that no cloud hides, as far as the scenes tell.
    """

    values: NDArray[np.uint16] | NDArray[np.int16]
    pixels: Mapping[str, int]
    seen: int
    clear: int


@dataclass(eq=False)
class _Look:
    """Which pixels a scene of Sentinel-2 can give."""

    classes: NDArray[np.uint8] | None
    clouds: NDArray[np.uint8] | None
    clear: NDArray[np.bool_]
    data: NDArray[np.bool_]


def look_at(scene: Scene, grid: Grid) -> _Look:
    """Data and clear sky as classes and cloud probability tell; without classes, as blue does.

    Raises:
        SceneError: A file can't be read.
    """
    clouds = read_band(scene, CLOUD_PROBABILITY, grid) if CLOUD_PROBABILITY in scene.files else None
    if SCENE_CLASSES in scene.files:
        classes = read_band(scene, SCENE_CLASSES, grid).astype(np.uint8, copy=False)
        data = ~np.isin(classes, radiometry.SCENE_NODATA)
        return _Look(classes, clouds, radiometry.clear_sky(classes, clouds), data)
    data = read_band(scene, _SWATH_BAND, grid) > 0
    clear = data if clouds is None else data & (clouds <= radiometry.CLEAR_PERCENT)
    return _Look(None, clouds, clear, data)


def compose_s2(
    scenes: Sequence[Scene], grid: Grid, offset_of: OffsetOf, each: Each = map
) -> Composite:
    """A month of Sentinel-2.

    Args:
        scenes: The best first.
        grid: Pixels to fill.
        offset_of: Offset of a scene, asked for when its first band is read.
        each: Reads bands side by side.

    Raises:
        SceneError: A file can't be read.
    """
    out = np.zeros((len(S2.bands), *grid.shape), np.uint16)
    out[-1] = CLP_NONE
    given = np.full(grid.shape, -1, np.int16)
    clear = np.zeros(grid.shape, bool)
    used: dict[int, tuple[NDArray[np.uint16] | int, NDArray[np.uint16], Offset]] = {}
    for number, scene in enumerate(scenes):
        if clear.all():
            break
        look = look_at(scene, grid)
        takes = _taken(look, given, clear)
        if not takes.any():
            continue
        offset = offset_of(scene)
        if offset is None:
            continue
        # Zeros beyond the swath are no data, whatever classes and tags say; before anything is
        # merged, so that the next scene fills them.
        blue = _read_where(scene, _SWATH_BAND, grid, takes)
        look.data &= blue > 0
        look.clear &= look.data
        takes &= look.data
        given[takes] = number
        clear |= look.clear
        used[number] = (_probability(look), blue, offset)
    for number, (probability, blue, offset) in used.items():
        mask = given == number
        if not mask.any():
            continue
        scene = scenes[number]

        def fill(band: str, scene: Scene = scene, mask: NDArray[np.bool_] = mask,
                 blue: NDArray[np.uint16] = blue, offset: Offset = offset) -> None:  # fmt: skip
            counts = blue if band == _SWATH_BAND else _read_where(scene, band, grid, mask)
            known = radiometry.reflectance(counts, offset)
            np.copyto(out[S2.bands.index(band)], known, where=mask)

        for _ in each(fill, S2.measured):
            pass
        np.copyto(out[-1], probability, where=mask)
    names = np.bincount((given[given >= 0]).ravel(), minlength=len(scenes))
    pixels = {scene.id: int(count) for scene, count in zip(scenes, names, strict=True) if count}
    return Composite(out, pixels, int((given >= 0).sum()), int(clear.sum()))


def _taken(look: _Look, given: NDArray[np.int16], clear: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return (look.clear & ~clear) | (look.data & (given < 0))


def _probability(look: _Look) -> NDArray[np.uint16] | int:
    if look.clouds is not None:
        return np.minimum(look.clouds, 100).astype(np.uint16)
    return CLP_NONE if look.classes is None else radiometry.cloud_percent(look.classes)


def _read_where(scene: Scene, band: str, grid: Grid, mask: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """A band in those parts of a grid that hold something of a mask, 0 elsewhere."""
    out = np.zeros(grid.shape, np.uint16)
    whole = Window(0, 0, grid.width, grid.height)
    for window in _windows_with(mask):
        out[slices_in(window, whole)] = read_band(scene, band, grid.part(window))
    return out


def _windows_with(mask: NDArray[np.bool_]) -> list[Window]:
    """Rows of tiles, from the first to the last that holds something; alike ones together.

    A read costs as much as the pixels of a small tile do, so there are few of them.
    """
    found: list[Window] = []
    columns = np.arange(0, mask.shape[1], _TILE)
    for top in range(0, mask.shape[0], _TILE):
        rows = mask[top : top + _TILE]
        held = columns[np.logical_or.reduceat(rows.any(axis=0), columns)]
        if not held.size:
            continue
        right = min(int(held[-1]) + _TILE, mask.shape[1])
        window = Window(int(held[0]), top, right - int(held[0]), len(rows))
        last = found[-1] if found else None
        if last and last.row_off + last.height == top and last.col_off == window.col_off \
                and last.width == window.width:  # fmt: skip
            found[-1] = Window(last.col_off, last.row_off, last.width, last.height + len(rows))
        else:
            found.append(window)
    return found


def compose_s1(
    scenes: Sequence[Scene], grid: Grid, incidence_deg: float | None, each: Each = map
) -> Composite:
    """A month of Sentinel-1: mean power by orbit and polarization, as sigma0 in dB.

    Args:
        scenes: In any order that is always the same: sums are rounded.
        grid: Pixels to fill.
        incidence_deg: For gamma0 of scenes that don't state theirs; None: left as it is.
        each: Reads orbits and polarizations side by side.

    Raises:
        SceneError: A file can't be read.
    """
    out = np.full((len(S1.bands), *grid.shape), S1.fill, np.int16)

    def mean(name: str) -> dict[str, int]:
        polarization, _, orbit = name.partition("_")
        mine = [one for one in scenes if one.orbit == orbit and polarization in one.files]
        total, count = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.uint16)
        pixels = {}
        for scene in mine:
            values = read_band(scene, polarization, grid).astype(np.float32, copy=False)
            unit = scene.unit or radiometry.radar_unit(values)
            power = radiometry.radar_power(values, unit)
            known = np.isfinite(power)
            pixels[scene.id] = int(known.sum())
            angle = incidence_deg if scene.incidence_deg is None else scene.incidence_deg
            power *= np.float32(radiometry.sigma0_factor(angle))
            np.copyto(power, 0, where=~known)  # a masked addition takes half as long again
            total += power
            count += known
        if mine:
            with np.errstate(divide="ignore", invalid="ignore"):
                total /= count
                np.log10(total, out=total)
            out[S1.bands.index(name)] = S1.pack(total * np.float32(10))
        return pixels

    pixels: dict[str, int] = {}
    for one in each(mean, S1.bands):
        pixels |= {name: count for name, count in one.items() if count}
    seen = int((out != S1.fill).any(axis=0).sum())
    return Composite(out, pixels, seen, seen)


class Offsets:
    """Offsets of scenes as metadata and pixels have them; looked at when a scene is first used.

    Attributes:
        found: By scene, the offset (None: left out) and the contradiction, if there was one.

    Args:
        coarse: Pixels of the look, of the whole area, so that every block comes to the same.
        correct: Take what the pixels say where they contradict; False: leave the scene out.
    """

    def __init__(self, coarse: Grid, *, correct: bool = True) -> None:
        self._coarse, self._correct = coarse, correct
        self.found: dict[str, tuple[Offset | None, str | None]] = {}
        self._unstated_are_off = False

    def of(self, scene: Scene) -> Offset | None:
        """A scene's offset, or None: it can't be used.

        Raises:
            SceneError: It can't be read.
        """
        if scene.id not in self.found:
            self.found[scene.id] = self._looked_at(scene)
        return self.found[scene.id][0]

    def settle_unstated(self, scenes: Iterable[Scene]) -> None:
        """Look at scenes whose metadata say nothing.

        If one is seen to be without the offset, all are, also those under snow, whose pixels
        can't tell.
        """
        for scene in scenes:
            if scene.sensor == S2.name and scene.offset.counts is None:
                try:
                    offset, _ = self._from_pixels(scene)
                except SceneError:
                    continue
                self._unstated_are_off |= offset.counts == 0

    def _looked_at(self, scene: Scene) -> tuple[Offset | None, str | None]:
        offset, contradiction = self._from_pixels(scene)
        if contradiction is not None:
            log.warning(
                "Scene %s: %s; %s.", scene.id, contradiction,
                "corrected" if self._correct else "left out",
            )  # fmt: skip
            return (offset if self._correct else None), contradiction
        if offset.counts is None and self._unstated_are_off:
            return Offset(0.0, offset.gain, "as others that state nothing"), None
        if offset.counts is None:
            log.warning(
                "Scene %s is left out: %s, and its pixels don't tell; add raster:bands with scale "
                "and offset to its blue asset.", scene.id, UNSTATED.why,
            )  # fmt: skip
            return None, UNSTATED.why
        return offset, None

    def _from_pixels(self, scene: Scene) -> tuple[Offset, str | None]:
        stated = scene.offset
        if stated.counts is None:
            scale, offset = tags_of(scene, "B2")
            if (scale, offset) != (1.0, 0.0):
                stated = stated_offset(None, None, scale, offset)
        classes = (
            read_band(scene, SCENE_CLASSES, self._coarse) if SCENE_CLASSES in scene.files else None
        )
        return checked_offset(stated, read_band(scene, "B2", self._coarse), classes)


def coarse_grid(grid: Grid) -> Grid:
    """The same ground at 80 m, or finer where that would be a handful of pixels."""
    factor = _COARSE
    while factor > 1 and grid.height * grid.width < _FEWEST_COARSE * factor**2:
        factor //= 2
    height, width = (-(-size // factor) for size in grid.shape)
    return Grid(grid.crs, grid.transform @ Affine.scale(factor), height, width)
