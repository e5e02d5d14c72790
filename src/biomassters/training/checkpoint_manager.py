"""When a run's state is saved, and whether and how a run is taken up again.

A folder of checkpoints belongs to one experiment: ``run_identity`` describes it by what decides
its outcome, and a run that differs is refused. The files themselves are ``checkpoint.py``'s.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from biomassters.errors import BadInputError
from biomassters.io.files import require_space, try_lock
from biomassters.training.checkpoint import CheckpointFolder, content_crc, read_checkpoint
from biomassters.training.micro_batches import Feed
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import CommonRefusalError, Ranks
from biomassters.training.state import TrainingState

logger = logging.getLogger(__name__)

RESTART = (
    "set training.restart=true to start afresh, or restart: true of one stage in training.stages"
)
# Options that earlier versions didn't know, and what they did.
ADDED_LATER = {
    "training.augmentation.border": "symmetric",
    "training.augmentation.brightness": 0.0,
    "training.crops_per_chip": 1,
    "training.keep_batch_norm_statistics": False,
    "training.freeze_batch_norm_share": 0.0,
    "training.start_unbiased": False,
    "training.start_from_weights": None,
    "training.start_scaling": "weights",
    "training.validation_score": "maps",
    "training.validation_precision": "auto",
}


class CheckpointManager:
    """Saves and resumes one run; the first rank alone writes, all read what it chose."""

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        options: TrainingOptions,
        feed: Feed,
        ranks: Ranks | None = None,
    ) -> None:
        self.path, self._ranks = folder, ranks or Ranks()
        self._folder = CheckpointFolder(folder, options.checkpoints_kept)
        self._identity, self._options, self._feed = identity, options, feed
        self._saved_at = time.monotonic()
        self._content: dict[str, Any] | None = None
        self._saving_s = 0.0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the folder within the block; also a killed one lets it go."""
        with ExitStack() as block:

            def lock() -> None:
                block.callback(os.close, self._lock())

            self._ranks.on_first(lock)
            yield

    def _lock(self) -> int:
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY)  # of the folder itself: no file is left behind
        if not try_lock(descriptor):
            os.close(descriptor)
            raise BadInputError(
                f"Another run is training in {self.path}: wait until it ends or stop it, then run "
                "again."
            )
        return descriptor

    def resume(self, state: TrainingState) -> None:
        """Bring a fresh state to where the run was left; leave it as it is at a first start.

        Raises:
            BadInputError: The checkpoints belong to another run, or none can be read.
        """
        if self._options.launch.nodes > 1:
            self._check_shared()
        chosen = self._ranks.on_first(self._choose)
        if chosen is None:
            return
        content, self._content = self._content or read_checkpoint(chosen), None
        state.restore(content)
        if content_crc(state.network.state_dict()) != content_crc(content["weights"]):
            raise BadInputError(f"Weights of {chosen} changed on their way: check the memory.")
        position = state.position
        if position.epoch < self._options.epochs and self._ranks.first:
            logger.info(
                "Training continues in epoch %d of %d after step %d of %d.",
                position.epoch + 1,
                self._options.epochs,
                position.step,
                self._feed.steps,
            )

    def _check_shared(self) -> None:
        """Refuse a folder that not all machines see: what the first saves, all must read."""
        mark = self.path / ".seen_by_all_ranks"
        self._ranks.on_first(mark.touch)
        if not all(self._ranks.together(mark.is_file)):
            raise CommonRefusalError(
                f"Not every machine sees {self.path} of the first one: let the project's folder "
                "lie on storage that all machines share."
            )

    def _choose(self) -> Path | None:
        """The checkpoint to go on from; its content is kept for ``resume`` on this rank."""
        self._content = None if self._options.restart else self._folder.newest()
        if self._content is None:
            return None
        check_same(self._content["experiment"], self._identity, self.path)
        position = self._content["position"]
        ahead = self._feed.next_chip_ids(position["epoch"], position["step"])
        if self._content["next_chips"] != ahead:
            raise BadInputError(
                f"The checkpoints in {self.path} come from a version that drew chips in another "
                f"order: continue with that version, or {RESTART}."
            )
        return self._folder.files()[0]

    def prepare(self, state: TrainingState) -> None:
        """Make room for the checkpoints to come; the last thing before the first step.

        Raises:
            BadInputError: The disk has too little room. Earlier checkpoints are as they were,
                also those that a restart would delete.
        """
        self._ranks.on_first(lambda: self._make_room(state))

    def _make_room(self, state: TrainingState) -> None:
        missing = max(1, self._options.checkpoints_kept + 1 - len(self._folder.files()))
        require_space(self.path, missing * state.checkpoint_bytes(), "Keeping checkpoints")
        if self._options.restart:
            self._folder.clear()

    def save_if_due(self, state: TrainingState) -> None:
        """Save after so many epochs, after the last one, and after so many minutes."""
        position, options = state.position, self._options
        at_end = position.step == 0 and (
            position.epoch % options.checkpoint_every_epochs == 0
            or position.epoch == options.epochs
        )
        minutes = (time.monotonic() - self._saved_at) / 60.0
        if at_end or minutes >= options.checkpoint_every_minutes:
            self.save(state)

    def save(self, state: TrainingState) -> None:
        """Save now; the ranks' states are the same, so that the first one's is everybody's."""
        if not self._ranks.first:
            return
        start, position = time.monotonic(), state.position
        content = {
            **state.capture(),
            "experiment": self._identity,
            "next_chips": self._feed.next_chip_ids(position.epoch, position.step),
        }
        self._folder.save(content, position.epoch, position.step)
        self._saved_at = time.monotonic()
        self._saving_s += self._saved_at - start

    def saving_s(self) -> float:
        """Seconds that saving has taken since this was asked last."""
        seconds, self._saving_s = self._saving_s, 0.0
        return seconds


def run_identity(
    options: TrainingOptions,
    state: Mapping[str, Tensor],
    *,
    fingerprint: str,
    training_ids: Sequence[str],
    validation_ids: Sequence[str],
    initial_state: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Describe an experiment by what decides its outcome, to be stored in every checkpoint.

    Args:
        options: Of the run; those in ``free_options`` don't count.
        state: Of the network; names and shapes count, values don't: they come from the seed.
        fingerprint: Of the chip store.
        training_ids: Chips learnt from.
        validation_ids: Chips held out.
        initial_state: Weights that the run starts from, where it is given any.
    """
    return {
        "options": options.model_dump(mode="json", exclude=set(options.free_options)),
        "network": _digest(f"{name} {tuple(value.shape)}" for name, value in state.items()),
        "data": fingerprint,
        "training_chips": _digest(sorted(training_ids)),
        "validation_chips": _digest(sorted(validation_ids)),
        "initial_weights": None if initial_state is None else content_crc(initial_state),
    }


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


_DIFFERENCES = {
    "data": "another chip store",
    "network": "other network layers",
    "training_chips": "other training chips",
    "validation_chips": "other validation chips",
    "initial_weights": "other initial weights",
}


def check_same(begun: Mapping[str, Any], now: Mapping[str, Any], folder: object) -> None:
    """Refuse to continue a run (``begun``) as another (``now``), and say in what they differ."""
    changed = [what for key, what in _DIFFERENCES.items() if begun.get(key) != now[key]]
    if changed:
        raise BadInputError(
            f"The checkpoints in {folder} belong to another run, with {' and '.join(changed)}: "
            f"restore what was, keep both with '--params run=NAME', or {RESTART}."
        )
    before, after = _flat("training", begun["options"]), _flat("training", now["options"])
    before = ADDED_LATER | before
    options = [
        f"{name} was {before.get(name, 'unknown')}, is {after.get(name, 'unknown')}"
        for name in sorted(before.keys() | after.keys())
        if (name in before, before.get(name)) != (name in after, after.get(name))
    ]
    if options:
        raise BadInputError(
            f"The checkpoints in {folder} belong to a run with other options "
            f"({'; '.join(options)}): give them back their values to continue it, keep both with "
            f"'--params run=NAME', or {RESTART}."
        )


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Nested options by dotted name."""
    if not isinstance(value, Mapping):
        return {name: value}
    parts = (_flat(f"{name}.{part}", inner) for part, inner in value.items())
    return {key: leaf for part in parts for key, leaf in part.items()}
