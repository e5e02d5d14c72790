"""Make the packaged starter of trained weights, and hand on the intervals that belong to it.

python .ci/starter.py teach data/06_models/teacher_1/weights.safetensors …
python .ci/starter.py weights data/06_models/taught/weights.safetensors
python .ci/starter.py intervals data/06_models/calibration/uncertainty.json

docs/starter.md has the whole recipe.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from biomassters.chips.chip import Chip
from biomassters.inference.chips import batch_of_chip
from biomassters.inference.predict import predict_batch
from biomassters.network.agb_net import AgbNet
from biomassters.network.starter import STARTER, STARTER_FILE
from biomassters.network.weights import (
    load_network,
    read_description,
    save_network,
    weights_fingerprint,
)
from biomassters.simulation.options import SimulationOptions
from biomassters.simulation.simulated_chips import SimulatedChips, write_simulated

MOST_BYTES = 4_000_000
RECIPE = Path("conf/starter/parameters.yml")
TAUGHT = Path("data/01_raw/taught")
CALIBRATED = Path("data/06_models/calibration/weights.safetensors")
OTHER_SEED = 20230331  # no chip that the teacher has seen


class TaughtChips(SimulatedChips):
    """Simulated chips whose labels are the mean of the label and of networks' mean map of the chip.

    Such a label has less of what no image shows: the noise of the laser, trees that differ where
    they look alike (Hinton et al. 2015, arXiv 1503.02531: distillation).
    """

    def __init__(self, options: SimulationOptions, teachers: Sequence[AgbNet]) -> None:
        super().__init__(options)
        self.teachers = teachers

    def __iter__(self) -> Iterator[Chip]:
        for chip in super().__iter__():
            batch = batch_of_chip(chip)
            maps = [
                predict_batch(teacher, batch.images, batch.chip_of_month, 1)[0].numpy()
                for teacher in self.teachers
            ]
            assert chip.agb_mg_per_ha is not None, "there are no test chips"
            yield replace(chip, agb_mg_per_ha=(chip.agb_mg_per_ha + np.mean(maps, axis=0)) / 2)

    @property
    def fingerprint(self) -> str:
        """Of the chips and of the weights that taught."""
        parts = [weights_fingerprint(teacher.state_dict()) for teacher in self.teachers]
        return hashlib.sha256("".join([super().fingerprint, *parts]).encode()).hexdigest()


def teach(*files: Path) -> str:
    """An archive of twice the recipe's chips, another seed's, with labels that weights taught."""
    options = SimulationOptions.model_validate(yaml.safe_load(RECIPE.read_text())["simulation"])
    changes = {"seed": OTHER_SEED, "train_chips": 2 * options.train_chips}
    chips = TaughtChips(options.model_copy(update=changes), [load_network(f) for f in files])
    write_simulated(chips, TAUGHT)
    return f"{TAUGHT}: {len(chips):,} chips"


def package_weights(file: Path) -> str:
    """Kernels rounded to float16; what was made, in words.

    Its own chips have taught labels, so that intervals are calibrated on others, all of which it
    never saw. For that a copy that names no data of its own lies in ``CALIBRATED``.
    """
    description = read_description(file)
    save_network(load_network(file), STARTER_FILE, description, half=True)
    size = STARTER_FILE.stat().st_size
    if size > MOST_BYTES:
        STARTER_FILE.unlink()
        sys.exit(f"{size:,} bytes are more than {MOST_BYTES:,}: train a smaller network.")
    description |= {"data_fingerprint": None, "held_out_fold": 0}
    save_network(load_network(STARTER_FILE), CALIBRATED, description)
    # Intervals of earlier weights are none of these.
    STARTER_FILE.with_suffix(".uncertainty.json").unlink(missing_ok=True)
    return f"{STARTER_FILE}: {size:,} bytes"


def package_intervals(file: Path) -> str:
    """A calibration of just the packaged weights; where it was put, in words."""
    found = json.loads(file.read_text())
    if found["weights_fingerprint"] != read_description(STARTER_FILE)["fingerprint"]:
        sys.exit(
            f"{file} was calibrated for other weights: run '--pipelines inference,uncertainty "
            f"--params weights={CALIBRATED}' first."
        )
    packaged = STARTER_FILE.with_suffix(".uncertainty.json")
    packaged.write_text(json.dumps(found | {"weights": STARTER}, indent=2) + "\n")
    return str(packaged)


if __name__ == "__main__":
    verbs = {"teach": teach, "weights": package_weights, "intervals": package_intervals}
    verb, *files = sys.argv[1:] or [""]
    if verb not in verbs or not files or (len(files) > 1 and verb != "teach"):
        sys.exit(__doc__)
    print(verbs[verb](*map(Path, files)))
