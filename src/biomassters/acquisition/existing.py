"""What is there already: files that are right needn't be fetched again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from biomassters.acquisition.wanted import WantedFile
from biomassters.chips.archive.layout import file_state
from biomassters.io.checksum import file_cksum
from biomassters.io.row_journal import RowJournal
from biomassters.io.storage import State
from biomassters.progress_bar import Progress
from biomassters.workers.pool import Threads


def split_existing(
    wanted: Sequence[WantedFile], journal: RowJournal, progress: bool = True
) -> tuple[list[WantedFile], list[WantedFile]]:
    """Divides files into those that are right and those to be fetched.

    A file is read once; as long as its size and time stay, the journal vouches for it.

    Args:
        wanted: The files.
        journal: What has been found right, by name.
        progress: Whether to show a bar.

    Returns:
        Right files and the others.
    """
    states = [file_state(str(file.path)) for file in wanted]
    known = [
        state is not None and journal.entries.get(file.filename) == proof(file, state)
        for file, state in zip(wanted, states, strict=True)
    ]
    unread = [
        number
        for number, (file, state) in enumerate(zip(wanted, states, strict=True))
        if not known[number] and state is not None and state[0] == file.size
    ]
    with Progress("checking files", len(unread), shown=progress and bool(unread)) as bar:
        for place, right in Threads().each(_IsRight(), [wanted[number] for number in unread]):
            bar.update()
            if right:
                number = unread[place]
                note(journal, wanted[number])
                known[number] = True
    right_files = [file for file, right in zip(wanted, known, strict=True) if right]
    return right_files, [file for file, right in zip(wanted, known, strict=True) if not right]


def note(journal: RowJournal, file: WantedFile) -> None:
    """Notes that a file on the disk is right."""
    state = file_state(str(file.path))
    if state is not None:
        journal.append(file.filename, proof(file, state))


def proof(file: WantedFile, state: State) -> list[int | str]:
    """What must stay as it is for a file to count as read: size, time, checksum."""
    return [*state, file.cksum]


@dataclass(frozen=True)
class _IsRight:
    def __call__(self, file: WantedFile) -> bool:
        try:
            return file_cksum(Path(file.path)) == file.cksum
        except OSError:
            return False
