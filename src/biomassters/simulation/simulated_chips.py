"""Simulated chips: made on demand, each a function of the options and its index.

``SimulatedChips`` is what the simulation pipeline passes on, ``write_simulated`` what writes them
as a raw archive. One chip, from its window to its images, is ``simulate_chip``.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.archive.layout import label_name
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.bands import SENSORS
from biomassters.chips.chip import Chip
from biomassters.chips.provenance import REGION_NOTE, SIMULATION_NOTE
from biomassters.chips.split_labels import TEST_LABELS_FOLDER
from biomassters.errors import BadInputError
from biomassters.io.files import publish_folder
from biomassters.io.raster import write_raster
from biomassters.simulation.landscape import MARGIN_PIXELS, Landscape, make_landscape
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.random_fields import Window, key, mix
from biomassters.simulation.simulated_images import simulate_year
from biomassters.simulation.sites import draw_site
from biomassters.simulation.year import everything, make_availability, make_weather
from biomassters.workers.pool import in_processes

SIMULATION_VERSION = 1  # raise it with every change that changes a chip
WORTH_PROCESSES = 60  # chips; 0.1 s each, of 96 pixels
CHIP_SPACING_PIXELS = 4096  # beyond the reach of the widest field's grain
CHIPS_PER_ROW = 128
_SITE = 0x517E  # keeps the draws apart from those of the weather and the images


class SimulatedChips:
    """All chips of a simulated archive, train first; nothing is kept in memory."""

    def __init__(self, options: SimulationOptions) -> None:
        self.options = options

    def __len__(self) -> int:
        return self.options.train_chips + self.options.test_chips

    def __iter__(self) -> Iterator[Chip]:
        simulate = partial(simulate_chip, self.options)
        return in_processes(simulate, range(len(self)), least=WORTH_PROCESSES)

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
    """Makes one chip, the same whatever was made before it; the training chips come first.

    In the test split it has no label, as in the real archive.
    """
    split = "train" if index < options.train_chips else "test"
    sequence = np.random.SeedSequence([options.seed, index])
    weather_rng, gaps_rng, *rngs = map(np.random.default_rng, sequence.spawn(2 + len(SENSORS)))
    landscape = _landscape(options, index)
    weather = make_weather(weather_rng, landscape.site)
    available = make_availability(gaps_rng, split) if options.missing_images else everything()
    return Chip(
        chip_id=chip_name(options.seed, index),
        split=split,
        images=simulate_year(landscape, weather, available, options, rngs.__getitem__),
        present=available.present,
        agb_mg_per_ha=_label(landscape) if split == "train" else None,
    )


def simulate_label(options: SimulationOptions, index: int) -> NDArray[np.float32]:
    """The true biomass of a chip of either split, float32 [H, W], Mg/ha.

    A test chip never carries it: it is written beside the archive, for scoring alone.
    """
    return _label(_landscape(options, index))


def _landscape(options: SimulationOptions, index: int) -> Landscape:
    site = draw_site(options.variety, np.random.default_rng([options.seed, _SITE, index]))
    return make_landscape(chip_window(options, index), options.seed, site)


def _label(landscape: Landscape) -> NDArray[np.float32]:
    """The label without margin, off by the site's shift."""
    down, right = (MARGIN_PIXELS + shift for shift in landscape.site.label_shift)
    height, width = landscape.window.padded(-MARGIN_PIXELS).shape
    return landscape.forest.label_mg_per_ha[down : down + height, right : right + width]


def write_simulated(chips: SimulatedChips, root: Path) -> bool:
    """Writes simulated chips as a raw archive, unless the same chips are there already.

    The labels of the test chips lie in a folder of their own, as the challenge published them.

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
            _write_test_labels(chips.options, root)  # which versions before this one didn't
            return False
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no simulation, or one that was interrupted
    write_archive(root, chips, total=len(chips))
    _write_test_labels(chips.options, root)
    facts = {"fingerprint": chips.fingerprint, "options": chips.options.model_dump()}
    partial = note.with_suffix(".partial")
    partial.write_text(json.dumps(facts, indent=2) + "\n")
    partial.replace(note)  # last: without it, the archive is written again
    return True


def _write_test_labels(options: SimulationOptions, root: Path) -> None:
    folder = root / TEST_LABELS_FOLDER
    if folder.is_dir() or not options.test_chips:
        return
    partial = root / f".{TEST_LABELS_FOLDER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for index in range(options.train_chips, options.train_chips + options.test_chips):
        name = label_name(chip_name(options.seed, index))
        write_raster(partial / name, simulate_label(options, index))
    publish_folder(partial, folder)
