"""Irregular patches that tile the endless plane: stands of forest, fields, plots.

A patch is the Voronoi cell of one random point in each square of a lattice (as in Worley
1996, "A cellular texture basis function", SIGGRAPH); displacing the places beforehand makes
the borders crooked.
"""

import numpy as np

from biomassters.simulation.noise import Field, Hashes, Window, key, mix, smooth, to_unit

Place = tuple[Field, Field]  # rows and columns, not necessarily whole


def warped_place(window: Window, seed: int, *name: str | int, grain: float, shift: float) -> Place:
    """Rows and columns [H, W] of a window, each displaced by a smooth field.

    Args:
        window: Where.
        seed: Seed of the landscape.
        *name: Name of the field.
        grain: Distance in pixels over which the displacement changes.
        shift: Its standard deviation in pixels.
    """
    rows = np.arange(window.top, window.top + window.height, dtype=np.float32)[:, None]
    columns = np.arange(window.left, window.left + window.width, dtype=np.float32)[None, :]
    down = smooth(window, seed, *name, "down", grain=grain, octaves=2)
    right = smooth(window, seed, *name, "right", grain=grain, octaves=2)
    return rows + shift * down, columns + shift * right


def patches(place: Place, seed: int, *name: str | int, spacing: float) -> Hashes:
    """uint32 [H, W]: the number of the patch that each place lies in.

    Patches are the Voronoi cells of one point in each square of a lattice.

    Args:
        place: Rows and columns.
        seed: Seed of the landscape.
        *name: Name of the field.
        spacing: Side of the lattice's squares, in pixels.
    """
    words = key(seed, *name)
    y, x = (axis / np.float32(spacing) for axis in place)
    cell_y, cell_x = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
    y, x = y - cell_y, x - cell_x
    nearest = np.full(y.shape, np.inf, np.float32)
    found = np.zeros(y.shape, np.uint32)
    for dy in (-1, 0, 1):
        row = mix((cell_y + dy).astype(np.uint32) + words[0])
        for dx in (-1, 0, 1):
            cell = mix(row ^ mix((cell_x + dx).astype(np.uint32) + words[1]))
            point_x = to_unit(mix(cell + np.uint32(1)))
            distance = (to_unit(cell) + dy - y) ** 2 + (point_x + dx - x) ** 2
            closer = distance < nearest
            nearest = np.where(closer, distance, nearest)
            found = np.where(closer, cell, found)
    return found


def patch_uniform(patch: Hashes, *name: str | int) -> Field:
    """float32, shape of the patches: one number of (0, 1) for each patch and name."""
    return to_unit(mix(patch ^ key(0, *name)[0]))
