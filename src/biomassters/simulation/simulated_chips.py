"""Simulated chips: made on demand, each a function of the options and its index.

``SimulatedChips`` is what the simulation pipeline passes on, ``write_simulated`` what writes them
as a raw archive. One chip, from its window to its images, is ``simulate_chip``.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from biomassters.chips.archive.writer import write_archive
from biomassters.chips.chip import Chip
from biomassters.chips.provenance import REGION_NOTE, SIMULATION_NOTE
from biomassters.errors import BadInputError
from biomassters.simulation.landscape import make_landscape, without_margin
from biomassters.simulation.optical import make_reflectance
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.radar import make_backscatter
from biomassters.simulation.random_fields import Window, key, mix
from biomassters.simulation.year import everything, make_availability, make_weather

SIMULATION_VERSION = 1  # raise it with every change that changes a chip
CHIP_SPACING_PIXELS = 4096  # beyond the reach of the widest field's grain
CHIPS_PER_ROW = 128


class SimulatedChips:
    """All chips of a simulated archive, train first; nothing is kept in memory."""

    def __init__(self, options: SimulationOptions) -> None:
        self.options = options

    def __len__(self) -> int:
        return self.options.train_chips + self.options.test_chips

    def __iter__(self) -> Iterator[Chip]:
        for index in range(len(self)):
            yield simulate_chip(self.options, index)

    @property
    def fingerprint(self) -> str:
        """What the chips depend on, hashed: the options and the simulation's version."""
        text = json.dumps([SIMULATION_VERSION, self.options.model_dump()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def chip_name(seed: int, index: int) -> str:
    """Eight hexadecimal digits, others for every index of a seed."""
    with np.errstate(over="ignore"):
        scrambled = mix(np.array([index], np.uint32) ^ key(seed, "chip names")[0])
    return f"{int(scrambled[0]):08x}"


def chip_window(options: SimulationOptions, index: int) -> Window:
    """Where a chip lies in the landscape; no two chips touch."""
    spacing = max(CHIP_SPACING_PIXELS, 2 * options.chip_size)
    row, column = divmod(index, CHIPS_PER_ROW)
    return Window(row * spacing, column * spacing, options.chip_size, options.chip_size)


def simulate_chip(options: SimulationOptions, index: int) -> Chip:
    """Makes one chip, the same whatever was made before it.

    Args:
        options: Size, seed and weather.
        index: 0 up to the number of chips; the training chips come first.

    Returns:
        The chip; in the test split without a label, as in the real archive.
    """
    split = "train" if index < options.train_chips else "test"
    sequence = np.random.SeedSequence([options.seed, index])
    weather_rng, gaps_rng, s1_rng, s2_rng = map(np.random.default_rng, sequence.spawn(4))
    weather = make_weather(weather_rng)
    available = make_availability(gaps_rng, split) if options.missing_images else everything()
    landscape = make_landscape(chip_window(options, index), options.seed)
    inner = without_margin(landscape.window)
    looks, cloudiness = options.speckle_looks, options.cloudiness
    return Chip(
        chip_id=chip_name(options.seed, index),
        split=split,
        s1_db=make_backscatter(landscape, weather, available, looks=looks, rng=s1_rng),
        s2=make_reflectance(landscape, weather, available, cloudiness=cloudiness, rng=s2_rng),
        present=np.stack([np.ones(12, bool), available.s2], axis=1),
        agb_mg_per_ha=landscape.forest.label_mg_per_ha[inner] if split == "train" else None,
    )


def write_simulated(chips: SimulatedChips, root: Path, *, progress: bool = True) -> bool:
    """Writes simulated chips as a raw archive, unless the same chips are there already.

    Args:
        chips: The chips.
        root: Folder of the archive.
        progress: Whether to show a progress bar.

    Returns:
        Whether anything was written.

    Raises:
        BadInputError: If the folder holds files that were not generated.
    """
    if (root / REGION_NOTE).exists():
        raise BadInputError(
            f"{root} holds chips that were cut from a region: name another folder for the "
            "simulated archive with '--params raw_root=FOLDER'."
        )
    note = root / SIMULATION_NOTE
    try:
        if json.loads(note.read_text())["fingerprint"] == chips.fingerprint:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no simulation, or one that was interrupted
    write_archive(root, chips, total=len(chips), progress=progress)
    facts = {"fingerprint": chips.fingerprint, "options": chips.options.model_dump()}
    partial = note.with_suffix(".partial")
    partial.write_text(json.dumps(facts, indent=2) + "\n")
    partial.replace(note)  # last: without it, the archive is written again
    return True
