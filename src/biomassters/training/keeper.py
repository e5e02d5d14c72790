"""When a run's state is saved, and how a run is taken up again."""

import logging
import time
from pathlib import Path
from typing import Any

from biomassters.chips.durable_files import require_space
from biomassters.errors import BadInputError
from biomassters.training.checkpoint import CheckpointFolder
from biomassters.training.experiment import RESTART, check_same
from biomassters.training.feed import Feed
from biomassters.training.options import TrainingOptions
from biomassters.training.state import TrainingState

logger = logging.getLogger(__name__)


class Keeper:
    """Saves and resumes one run.

    Args:
        folder: Of its checkpoints.
        identity: What ``experiment`` says of the run.
        options: How often to save.
        feed: Of the run.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], options: TrainingOptions, feed: Feed
    ) -> None:
        self._folder = CheckpointFolder(folder, options.checkpoints_kept)
        self._identity, self._options, self._feed = identity, options, feed
        self._saved_at = time.monotonic()

    @property
    def path(self) -> Path:
        """Folder of the checkpoints."""
        return self._folder.path

    def resume(self, state: TrainingState) -> None:
        """Bring a fresh state to where the run was left; leave it as it is at a first start.

        Raises:
            BadInputError: The checkpoints belong to another experiment, or none can be read.
        """
        content = None if self._options.restart else self._folder.newest()
        if content is None:
            return
        check_same(content["experiment"], self._identity, self.path)
        state.restore(content)
        position = state.position
        if content["next_chips"] != self._feed.next_chip_ids(position.epoch, position.step):
            raise BadInputError(
                f"The checkpoints in {self.path} come from a version that drew chips in another "
                f"order: continue with that version, or {RESTART}."
            )
        if position.epoch < self._options.epochs:
            logger.info(
                "Training continues in epoch %d of %d after step %d of %d.",
                position.epoch + 1,
                self._options.epochs,
                position.step,
                self._feed.steps,
            )

    def prepare(self, state: TrainingState) -> None:
        """Make room for the checkpoints to come; the last thing before the first step.

        Raises:
            BadInputError: The disk has too little room. Earlier checkpoints are as they were,
                also those that a restart would delete.
        """
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
        """Save now."""
        position = state.position
        content = {
            **state.capture(),
            "experiment": self._identity,
            "next_chips": self._feed.next_chip_ids(position.epoch, position.step),
        }
        self._folder.save(content, position.epoch, position.step)
        self._saved_at = time.monotonic()
