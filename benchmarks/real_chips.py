"""How wrong are maps of real chips: by weights that never saw one, and fine-tuned on the others?

Zero-shot: the weights as they are, one view. Few-shot: fine-tuned as the pipeline ``adapt`` does
it, on all complete labelled chips but the one that is then mapped. Scratch: the same network from
random weights, on the same chips, for twice the steps. Of each the RMSE over all pixels of the
uncut label, negative biomass set to 0. Nothing here may choose an option: what was chosen on a chip
has no score there.

Usage:
    uv run python benchmarks/real_chips.py [--weights starter] [--archives FOLDER …] [--seeds 1 2 3]
        [--zero-shot] [--picture FILE] [--json]

The last line with --json: zero_shot {chip: {rmse, bias, correlation, mean_rmse, linear_rmse}},
few_shot and scratch {chip: [rmse by seed]}, seconds. Without --archives, those that
BIOMASSTERS_SAMPLE and BIOMASSTERS_REAL_CHIPS hold.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from biomassters.chips.archive.archive import Archive
from biomassters.chips.chip import Chip
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.datasets.network_weights import NetworkWeights, load_weights
from biomassters.inference.chips import predict_chips
from biomassters.inference.options import InferenceOptions
from biomassters.network.agb_net import AgbNet
from biomassters.reporting.chip_maps import choose_pictures, example_maps
from biomassters.reporting.label_scores import LabelledArchive, rmse, score_archive
from biomassters.reporting.options import ReportingOptions
from biomassters.training.few_chips import AdaptOptions, few_chips_training
from biomassters.training.options import TrainingOptions
from biomassters.training.train import new_network, train

CONF = Path(__file__).parents[1] / "conf"
SHARED = Path(__file__).parents[2] / "shared"
COLUMNS = ("rmse", "bias", "correlation", "mean_rmse", "linear_rmse")
ONE_VIEW = InferenceOptions(views=("identity",))
SCRATCH_RATE = 5e-3  # conf/base's, which trains this network from random weights
SCRATCH_STEPS = 2
MOST_DRAWN = 6


def default_archives() -> list[Path]:
    """Archives of real chips on this machine."""
    sample = Path(os.environ.get("BIOMASSTERS_SAMPLE", SHARED / "biomassters"))
    more = Path(os.environ.get("BIOMASSTERS_REAL_CHIPS", SHARED / "real_chips"))
    inside = {file.parent for file in more.glob("*/*features_metadata*.csv")}
    return [place for place in (sample, *sorted(inside)) if place.is_dir()]


@dataclass(frozen=True)
class JoinedArchives:
    """The complete labelled chips of several archives, as a store is packed from."""

    archives: dict[str, Archive]  # by chip

    @classmethod
    def of(cls, folders: Sequence[Path]) -> "JoinedArchives":
        """Of folders in the layout of the official archive."""
        opened = [Archive.open(folder) for folder in folders]
        return cls({name: one for one in opened for name in LabelledArchive(one).chip_ids})

    def splits(self) -> dict[str, list[str]]:
        """All of them are training chips."""
        return {"train": list(self.archives)}

    def read_chip(self, chip_id: str) -> Chip:
        """Images and label."""
        return self.archives[chip_id].read_chip(chip_id)

    def signature(self, chip_id: str) -> str:
        """See ``ChipSource``."""
        return self.archives[chip_id].signature(chip_id)


def maps_of(network: Any, chips: JoinedArchives, names: Sequence[str]) -> dict[str, Any]:
    """Maps by chip, one view."""
    made = predict_chips(network, names, chips.read_chip, ONE_VIEW)
    return {one.chip_id: one.agb_mg_per_ha for one in made}


def zero_shot(
    weights: NetworkWeights, chips: JoinedArchives, store: ChipStore, picture: Path | None
) -> dict[str, Any]:
    """Scores of the weights as they are, by chip; their maps beside the labels in a picture."""
    maps = maps_of(weights.network, chips, list(chips.archives))
    known_mean, split = ReportingOptions().known_mean, store.split("train")
    table = score_archive(split, maps, known_mean, progress=False).per_chip()
    if picture is not None:
        example_maps(choose_pictures(split, maps, table, MOST_DRAWN)).savefig(picture, dpi=110)
    return table.set_index("chip_id")[list(COLUMNS)].round(3).to_dict("index")


def few_chips_options() -> TrainingOptions:
    """As ``conf/few_chips`` has it."""
    own = yaml.safe_load((CONF / "few_chips" / "parameters.yml").read_text())["training"]
    return TrainingOptions.model_validate(own)


def fine_tuned(
    network: AgbNet, store: ChipStore, training: Sequence[int], seed: int, *, scratch: bool
) -> AgbNet:
    """A network trained on some chips of the store, from its own weights or anew."""
    base = few_chips_options()
    adapt = AdaptOptions(leave_out=False)
    options = few_chips_training(base, adapt, len(training), [0])
    changes: dict[str, Any] = {"seed": seed, "checkpoint_every_minutes": 1e6}
    if scratch:
        changes |= {
            "learning_rate": SCRATCH_RATE,
            "epochs": options.epochs * SCRATCH_STEPS,
            "ema_decay": TrainingOptions().ema_decay,
            "keep_batch_norm_statistics": False,
        }
    options = options.model_copy(update=changes)
    fresh = new_network(network.options, network.scaling, seed)
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            fresh,
            store.split("train"),
            training,
            [],
            options,
            Path(folder),
            fingerprint=store.fingerprint,
            initial_state=None if scratch else network.state_dict(),
        )
    fresh.cpu().load_state_dict(result.last_state)
    return fresh.eval()


def leave_one_out(
    weights: NetworkWeights,
    chips: JoinedArchives,
    store: ChipStore,
    seeds: Sequence[int],
    *,
    scratch: bool,
) -> dict[str, list[float]]:
    """RMSE by seed of each chip, by networks trained on all the others."""
    names = store.split("train").chip_ids
    found: dict[str, list[float]] = {}
    for index, name in enumerate(names if len(names) > 1 else ()):
        others = [number for number in range(len(names)) if number != index]
        target = chips.read_chip(name).agb_mg_per_ha
        assert target is not None, "chosen for its label"
        for seed in seeds:
            network = fine_tuned(weights.first, store, others, seed, scratch=scratch)
            predicted = maps_of(network, chips, [name])[name]
            known = ~np.isnan(target)
            score = rmse(predicted[known], target[known])
            found.setdefault(name, []).append(round(score, 3))
            print(f"{'scratch' if scratch else 'few-shot'}, {name}, seed {seed}: {score:.1f}")
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--archives", nargs="+", type=Path, default=default_archives())
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--zero-shot", action="store_true", help="train nothing")
    parser.add_argument("--picture", type=Path, help="draw maps beside labels")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.archives:
        parser.error("no real chips on this machine: name archives with --archives")
    start = time.perf_counter()
    weights = load_weights(arguments.weights)
    chips = JoinedArchives.of(arguments.archives)
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "chips.zarr", chips)
        scores: dict[str, Any] = {"zero_shot": zero_shot(weights, chips, store, arguments.picture)}
        print("chip", *COLUMNS)
        for name, row in scores["zero_shot"].items():
            print(name, *(f"{row[column]:.2f}" for column in COLUMNS), flush=True)
        seeds = () if arguments.zero_shot else arguments.seeds
        for kind in ("few_shot", "scratch"):
            scores[kind] = leave_one_out(weights, chips, store, seeds, scratch=kind == "scratch")
    scores["seconds"] = round(time.perf_counter() - start, 1)
    if arguments.json:
        print(json.dumps(scores))


if __name__ == "__main__":
    main()
