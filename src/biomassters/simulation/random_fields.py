"""Random fields that are functions of the place: any window can be made on its own.

White noise hashes the seed, the name of the field and the pixel's row and column, so that a value
never depends on the window it is made in. Smooth fields interpolate such noise from a coarse grid
of points; patches are the cells around such points. Every field takes its window (or places), the
landscape's seed and the field's name. ``landscape`` builds the forest of them.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Field = NDArray[np.float32]
Hashes = NDArray[np.uint32]
Place = tuple[Field, Field]  # rows and columns, not necessarily whole

# A decorator. On each number of cores OpenBLAS adds up in another order, so that a pixel in ten
# million was rounded to another count; and its threads wait for each other longer than they work.
one_blas_thread = ThreadpoolController().wrap(limits=1, user_api="blas")

_TO_UNIT = np.float32(2.0**-24)


@dataclass(frozen=True)
class Window:
    """A rectangle of the endless plane, in pixels; ``top`` and ``left`` may be negative."""

    top: int
    left: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def padded(self, margin: int) -> "Window":
        """The window with a margin on all sides."""
        return Window(
            self.top - margin, self.left - margin, self.height + 2 * margin, self.width + 2 * margin
        )


def mix(x: Hashes) -> Hashes:
    """Scrambles 32-bit integers one to one.

    The function is ``lowbias32`` of Wellons, "Prospecting for hash functions" (2018).
    """
    x = x ^ (x >> np.uint32(16))
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x


def key(seed: int, *name: str | int) -> tuple[np.uint32, np.uint32]:
    """Two 32-bit keys of a named field."""
    text = "/".join(map(str, (seed, *name)))
    words = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=8).digest(), "<u4")
    return words[0], words[1]


def _to_unit(hashes: Hashes) -> Field:
    """Hashes as numbers evenly spread over (0, 1), never 0 or 1."""
    return ((hashes >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) * _TO_UNIT


def _axis(start: int, count: int, word: np.uint32) -> Hashes:
    places = np.arange(start, start + count, dtype=np.int64) & 0xFFFFFFFF
    return mix(places.astype(np.uint32) + word)


def _hashes(window: Window, seed: int, *name: str | int) -> Hashes:
    """uint32 [H, W]: one independent hash a pixel."""
    row_key, column_key = key(seed, *name)
    rows = _axis(window.top, window.height, row_key)
    columns = _axis(window.left, window.width, column_key)
    return mix(rows[:, None] ^ columns[None, :])


def uniform(window: Window, seed: int, *name: str | int) -> Field:
    """float32 [H, W]: white noise, even over (0, 1)."""
    return _to_unit(_hashes(window, seed, *name))


def normal(window: Window, seed: int, *name: str | int, count: int = 1) -> Field:
    """float32 [count, H, W]: independent standard normal white noise (Box & Muller 1958)."""
    fields: list[Field] = []
    for pair in range((count + 1) // 2):
        base = _hashes(window, seed, *name, pair)
        radius = np.sqrt(np.float32(-2) * np.log(_to_unit(base)))
        angle = np.float32(2 * np.pi) * _to_unit(mix(base ^ np.uint32(0x9E3779B9)))
        fields += [radius * np.cos(angle), radius * np.sin(angle)]
    return np.stack(fields[:count])


@lru_cache(maxsize=256)
def _spline_weights(start: int, count: int, spacing: float) -> tuple[int, Field]:
    """First grid point and cubic B-spline weights [count, points] of a row of pixels."""
    place = np.arange(start, start + count, dtype=np.float64) / spacing
    cell = np.floor(place).astype(np.int64)
    t = place - cell
    basis = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)  # unit variance at every pixel
    first = int(cell[0])
    weights = np.zeros((count, int(cell[-1]) - first + 4), np.float32)
    for offset in range(4):
        weights[np.arange(count), cell - first + offset] = basis[:, offset]
    return first, weights


def smooth(window: Window, seed: int, *name: str | int, grain: float, octaves: int = 1) -> Field:
    """float32 [H, W]: smooth Gaussian noise, standard normal at every pixel.

    It changes over ``grain`` pixels; each of further octaves, which are added, has half the grain
    and half the weight of the one before.
    """
    total = np.zeros(window.shape, np.float32)
    power = 0.0
    for octave in range(octaves):
        scale = grain / 2**octave
        top, rows = _spline_weights(window.top, window.height, scale)
        left, columns = _spline_weights(window.left, window.width, scale)
        points = Window(top, left, rows.shape[1], columns.shape[1])
        total += 0.5**octave * (rows @ normal(points, seed, *name, octave)[0] @ columns.T)
        power += 0.25**octave
    return total / np.float32(np.sqrt(power))


def warped_place(window: Window, seed: int, *name: str | int, grain: float, shift: float) -> Place:
    """Rows and columns [H, W] of a window, displaced so that patches' borders become crooked.

    The displacement has a standard deviation of ``shift`` pixels and changes over ``grain``.
    """
    rows = np.arange(window.top, window.top + window.height, dtype=np.float32)[:, None]
    columns = np.arange(window.left, window.left + window.width, dtype=np.float32)[None, :]
    down = smooth(window, seed, *name, "down", grain=grain, octaves=2)
    right = smooth(window, seed, *name, "right", grain=grain, octaves=2)
    return rows + shift * down, columns + shift * right


def patches(place: Place, seed: int, *name: str | int, spacing: float) -> Hashes:
    """uint32 [H, W]: the number of the patch (a stand, a field) that each place lies in.

    Patches tile the plane: each is the Voronoi cell of one random point in a square of ``spacing``
    pixels (Worley 1996, "A cellular texture basis function", SIGGRAPH).
    """
    row_key, column_key = key(seed, *name)
    y, x = (axis / np.float32(spacing) for axis in place)
    cell_y, cell_x = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
    y, x = y - cell_y, x - cell_x
    nearest = np.full(y.shape, np.inf, np.float32)
    found = np.zeros(y.shape, np.uint32)
    for dy in (-1, 0, 1):
        row = mix((cell_y + dy).astype(np.uint32) + row_key)
        for dx in (-1, 0, 1):
            cell = mix(row ^ mix((cell_x + dx).astype(np.uint32) + column_key))
            point_x = _to_unit(mix(cell + np.uint32(1)))
            distance = (_to_unit(cell) + dy - y) ** 2 + (point_x + dx - x) ** 2
            closer = distance < nearest
            nearest = np.where(closer, distance, nearest)
            found = np.where(closer, cell, found)
    return found


def patch_uniform(patch: Hashes, *name: str | int) -> Field:
    """float32, shape of the patches: one number of (0, 1) for each patch and name."""
    return _to_unit(mix(patch ^ key(0, *name)[0]))
