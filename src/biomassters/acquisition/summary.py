"""What came of an acquisition, for people and for the exit status."""

import pandas as pd
from tqdm import tqdm

from biomassters.acquisition.arrival import COMPLETE, FAILED, FETCHED, MISSING, REPAIRED
from biomassters.errors import BadInputError

_MEANING = {
    COMPLETE: "right already",
    FETCHED: "right now",
    REPAIRED: "was wrong, right now",
    MISSING: "not at the source",
    FAILED: "not fetched",
}
_LISTED = 10


def summarise(table: pd.DataFrame) -> str:
    """The table of ``acquire`` as lines: files and bytes by status, and what went wrong."""
    lines = [f"{'status':<10}{'files':>10}{'size':>10}  meaning"]
    for status, meaning in _MEANING.items():
        chosen = table[table["status"] == status]
        size = readable_bytes(int(chosen["size"].sum()))
        lines.append(f"{status:<10}{len(chosen):>10,}{size:>10}  {meaning}")
    wrong = _wrong(table)
    lines += [f"  {row.filename}: {row.reason}" for row in wrong.head(_LISTED).itertuples()]
    if len(wrong) > _LISTED:
        lines.append(f"  … and {len(wrong) - _LISTED:,} more, see the acquisition table")
    return "\n".join(lines)


def readable_bytes(count: int) -> str:
    """A number of bytes as the progress bar shows it, as in ``291GB``."""
    return tqdm.format_sizeof(count, "B") if count else "0B"


def require_complete(table: pd.DataFrame) -> None:
    """Refuses to call an acquisition done that isn't.

    Raises:
        BadInputError: If a file is missing or failed.
    """
    wrong = _wrong(table)
    if len(wrong):
        first = wrong.iloc[0]
        raise BadInputError(
            f"{len(wrong):,} of {len(table):,} files are not right, the first is {first.filename} "
            f"({first.reason}): run again to fetch these alone, or choose another source."
        )


def _wrong(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["status"].isin([MISSING, FAILED])]
