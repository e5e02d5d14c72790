"""Whether a flipped bit on disk is ever read as something else: store, weights, checkpoint.

    python benchmarks/bit_flips.py --flips 200 --json

Writes a small chip store, weights and a checkpoint, flips one random bit at a time in one of
their files, and reads the whole of it. A flip is noticed if reading is refused, harmless if
what is read is the same, and unnoticed if it is not. Exit status 1 if any is unnoticed.
"""

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biomassters.chips.bands import MONTH_COUNT
from biomassters.chips.chip import Chip
from biomassters.chips.scaling import BandScaling
from biomassters.chips.store.reader import ChipStore
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.network.options import NetworkOptions
from biomassters.network.weights import load_network, save_network, weights_fingerprint
from biomassters.training.checkpoint import CheckpointFolder, content_crc, read_checkpoint

TINY = NetworkOptions(backbone="lcnet_035", decoder_channels=(12, 10, 8, 8, 6))
SIZE = 16


class MadeChips:
    """Three chips of random values, as a source for a store."""

    def splits(self) -> dict[str, list[str]]:
        """Two to learn from, one to predict."""
        return {"train": ["00000001", "00000002"], "test": ["00000003"]}

    def signature(self, chip_id: str) -> str:
        """They never change."""
        return chip_id

    def read_chip(self, chip_id: str) -> Chip:
        """All months of both sensors, and a label where the split has labels."""
        split = "train" if chip_id in self.splits()["train"] else "test"
        numbers = np.random.default_rng(int(chip_id))
        s1 = numbers.uniform(-30, 0, (MONTH_COUNT, 4, SIZE, SIZE)).astype(np.float32)
        s2 = numbers.integers(0, 10_000, (MONTH_COUNT, 11, SIZE, SIZE), dtype=np.uint16)
        label = numbers.uniform(0, 300, (SIZE, SIZE)).astype(np.float32)
        present = np.ones((MONTH_COUNT, 2), bool)
        agb = label if split == "train" else None
        return Chip(chip_id, split, {"s1": s1, "s2": s2}, present, agb)


def store_content(path: Path) -> list[Any]:
    """Every value of a store."""
    store = ChipStore(path)
    values: list[Any] = []
    for split in map(store.split, store.splits):
        for index in range(len(split)):
            chip = split.read_chip(index)
            label = None if chip.agb_mg_per_ha is None else chip.agb_mg_per_ha.tobytes()
            present = chip.present.tobytes()
            years = [year.tobytes() for year in chip.images.values()]
            values += [chip.chip_id, *years, present, label]
    return values


def weights_content(path: Path) -> tuple[str, Any, Mapping[str, Any]]:
    """Numbers, architecture and scaling of weights."""
    network = load_network(path / "best.safetensors")
    fingerprint = weights_fingerprint(network.state_dict())
    return fingerprint, network.options, network.scaling.to_dict()


def checkpoint_content(path: Path) -> int:
    """A checksum over everything in the folder's checkpoint."""
    return content_crc(read_checkpoint(next(path.glob("checkpoint_*.pt"))))


def make_all(root: Path) -> dict[Path, Callable[[Path], Any]]:
    """Write one of each kind; how each is read, by its folder."""
    torch.manual_seed(0)
    write_store(root / "store.zarr", MadeChips())
    network = AgbNet(TINY, BandScaling.reference())
    save_network(network, root / "weights" / "best.safetensors")
    layer = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.BatchNorm1d(64))
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.randn(8, 64)).square().mean().backward()
    optimizer.step()
    state = layer.state_dict()
    content = {
        "weights": state,
        "optimizer": optimizer.state_dict(),
        "averaged": {name: value * 0.5 for name, value in state.items()},
        "best_weights": {name: value * 2 for name, value in state.items()},
        "position": {"epoch": 1, "step": 2, "best_score": 31.5},
        "history": [{"epoch": 1, "train_loss": 40.0}],
    }
    CheckpointFolder(root / "checkpoints", kept=1).save(content, 1, 2)
    return {
        root / "store.zarr": store_content,
        root / "weights": weights_content,
        root / "checkpoints": checkpoint_content,
    }


def outcomes(root: Path, flips: int, seed: int) -> Iterator[tuple[str, str]]:
    """(noticed, harmless or unnoticed; file and bit) of each flip; the kinds take turns."""
    generator = random.Random(seed)
    kinds = list(make_all(root).items())
    intact = {folder: read(folder) for folder, read in kinds}
    files = {
        folder: [f for f in sorted(folder.rglob("*")) if f.is_file() and f.stat().st_size]
        for folder, _ in kinds
    }
    for number in range(flips):
        folder, read = kinds[number % len(kinds)]
        # A file first, then a byte: small files of metadata count as much as large ones.
        file = generator.choice(files[folder])
        content = bytearray(file.read_bytes())
        bit = generator.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        whole = file.read_bytes()
        file.write_bytes(content)
        try:
            outcome = "harmless" if read(folder) == intact[folder] else "unnoticed"
        except BadInputError:
            outcome = "noticed"
        file.write_bytes(whole)
        yield outcome, f"{file.relative_to(root)}, bit {bit}"


def main() -> int:
    """Flip, read, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--flips", type=int, default=210, help="how many bits, one at a time")
    parser.add_argument("--seed", type=int, default=20261125, help="which bits")
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for outcome, where in outcomes(Path(folder), given.flips, given.seed):
            counts[outcome] += 1
            if outcome == "unnoticed":
                print(f"unnoticed: {where}")
    print(
        f"{given.flips} flips: {counts['noticed']} noticed, {counts['harmless']} harmless, "
        f"{counts['unnoticed']} unnoticed"
    )
    if given.json:
        named = {name: counts[name] for name in ("unnoticed", "harmless")}
        print(json.dumps({"flips": given.flips, **named}))
    return int(counts["unnoticed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
