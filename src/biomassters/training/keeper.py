"""When a run's state is saved, and how a run is taken up again."""

import logging
import time
from pathlib import Path
from typing import Any

from biomassters.errors import BadInputError
from biomassters.io.files import require_space
from biomassters.training.checkpoint import CheckpointFolder, content_crc, read_checkpoint
from biomassters.training.experiment import RESTART, check_same
from biomassters.training.feed import Feed
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import CommonRefusalError, Ranks
from biomassters.training.state import TrainingState

logger = logging.getLogger(__name__)


class Keeper:
    """Saves and resumes one run.

    Args:
        folder: Of its checkpoints.
        identity: What ``experiment`` says of the run.
        options: How often to save.
        feed: Of the run.
        ranks: Of them the first alone writes; all read what it chose.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        options: TrainingOptions,
        feed: Feed,
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or Ranks()
        self._folder = CheckpointFolder(folder, options.checkpoints_kept)
        self._identity, self._options, self._feed = identity, options, feed
        self._saved_at = time.monotonic()
        self._content: dict[str, Any] | None = None
        self._saving_s = 0.0

    @property
    def path(self) -> Path:
        """Folder of the checkpoints."""
        return self._folder.path

    def resume(self, state: TrainingState) -> None:
        """Bring a fresh state to where the run was left; leave it as it is at a first start.

        Raises:
            BadInputError: The checkpoints belong to another experiment, or none can be read.
        """
        if self._options.launch.nodes > 1:
            self._check_shared()
        chosen = self._ranks.together(self._choose)[0]
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
        self._ranks.together(lambda: mark.touch() if self._ranks.first else None)
        if not all(self._ranks.together(mark.is_file)):
            raise CommonRefusalError(
                f"Not every machine sees {self.path} of the first one: let the project's folder "
                "lie on storage that all machines share."
            )

    def _choose(self) -> Path | None:
        """The first rank's choice of the checkpoint to go on from."""
        if not self._ranks.first or self._options.restart:
            return None
        self._content = self._folder.newest()
        if self._content is None:
            return None
        check_same(self._content["experiment"], self._identity, self.path)
        place = self._content["position"]
        ahead = self._feed.next_chip_ids(place["epoch"], place["step"])
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
        self._ranks.together(lambda: self._make_room(state) if self._ranks.first else None)

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
