"""What a run shows, on stderr: its log, and how far long work is.

``stream`` is where the log goes (``conf/logging.yml`` names it): lines are broken between words on
a terminal and nowhere in a file. The live bar of ``Progress`` uses it, too, so that they never
write over each other.

Whoever works through many items opens a ``Progress``: one live bar on a terminal, now and then a
line elsewhere. Only the outermost one shows, so a person never sees two; a run's hooks say which of
its steps it belongs to, and whoever repeats a piece of work says so with ``part``, so that the time
left is that of all of it.
"""

import logging
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from tqdm import tqdm

from biomassters.messages import readable_seconds, redact

Item = TypeVar("Item")

FORMAT = "%(asctime)s %(levelname)s: %(message)s"
TIME_FORMAT = "%H:%M:%S"

_HEAD = re.compile(r"(\d\d:\d\d:\d\d )?(DEBUG|INFO|WARNING|ERROR|CRITICAL): ")
_COLOURS = {"Warning:": "\33[33m", "Error:": "\33[31m"}
_PLAIN = "\33[0m"
_NARROW = 60  # columns below which there is room for neither the time of day nor a bar
_ROOM = 6  # least columns of the bar itself
_EVERY_S = 10.0
_SELDOM_S = 300.0
_GROWTH = 0.25  # of the time since the start: a run of an hour needs no line every ten seconds

log = logging.getLogger(__name__)


class Console:
    """A text stream that writes whole records to whatever ``sys.stderr`` is at the time."""

    def write(self, text: str) -> int:
        """Write one record, above the live bar if there is one.

        Args:
            text: Lines; the head that ``FORMAT`` gives a log record becomes shorter: no level
                for information, a plain word for others.
        """
        shown = _shortened(redact(text), self.columns)
        if self.columns is not None:
            shown = "\n".join(_wrapped(line, self.columns) for line in shown.split("\n"))
        if self.coloured:
            for word, colour in _COLOURS.items():
                shown = re.sub(rf"^([\d: ]*)({word})", rf"\1{colour}\2{_PLAIN}", shown)
        with tqdm.external_write_mode(file=sys.stderr):
            sys.stderr.write(shown)
        return len(text)

    def flush(self) -> None:
        """Pass on what is buffered."""
        sys.stderr.flush()

    @property
    def columns(self) -> int | None:
        """Width of the terminal, at least 20; None where stderr is no terminal."""
        if not sys.stderr.isatty():
            return None
        try:
            given = int(os.environ.get("COLUMNS", 0))
            return max(20, given or os.get_terminal_size(sys.stderr.fileno()).columns or 80)
        except (OSError, ValueError):
            return 80

    @property
    def coloured(self) -> bool:
        """Whether colours are wanted: on a terminal, without NO_COLOR (no-color.org)."""
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return sys.stderr.isatty() and not plain


stream = Console()


def log_here() -> None:
    """Log as ``conf/logging.yml`` does, in a process that Kedro doesn't configure."""
    logging.basicConfig(format=FORMAT, datefmt=TIME_FORMAT, stream=stream)


def _shortened(text: str, columns: int | None) -> str:
    head = _HEAD.match(text)
    if head is None:
        return text
    clock, level = head.groups()
    word = "" if level in ("DEBUG", "INFO") else f"{level.capitalize()}: "
    kept = "" if clock is None or (columns is not None and columns < _NARROW) else f"{clock} "
    return kept + word + text[head.end() :]


def _wrapped(line: str, columns: int) -> str:
    """A line broken between words; what is longer than a line, such as a path, stays whole."""
    if len(line) <= columns:
        return line
    indent = re.match(r"(\d\d:\d\d:\d\d)? *", line)
    assert indent is not None
    return textwrap.fill(
        line, columns, subsequent_indent=" " * min(len(indent[0]), columns // 3) + "  ",
        break_long_words=False, break_on_hyphens=False, replace_whitespace=False, expand_tabs=False,
    )  # fmt: skip


@dataclass
class _Shown:
    """What this process shows; times on the monotonic clock."""

    place: str = ""
    work: str = ""
    part: tuple[int, int] = (0, 1)
    outermost: "Progress | None" = None
    standing: "_Bar | None" = None
    began: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)


_shown = _Shown()


class Progress:
    """Progress of one piece of work, to be used in a ``with`` block.

    Args:
        what: The work, as in ``packing chips``.
        total: Items in all; None if unknown.
        done: Of them, done before.
        shown: False shows nothing.
    """

    def __init__(
        self, what: str, total: float | None = None, *, done: float = 0, shown: bool = True
    ) -> None:
        self.what, self._wanted = what, shown
        self._total, self._first, self._count = total, done, done
        self._place, (self._part, self._parts) = _shown.place, _shown.part
        self._note: tuple[str, ...] = ()
        self._began = time.monotonic()
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        if self._wanted and _shown.outermost is None:
            _shown.outermost = self
            self._began = time.monotonic()
            _shown.said = max(_shown.said, self._began)
            _stand()
            if sys.stderr.isatty():
                self._bar = _Bar(self.line)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if _shown.outermost is self:
            _shown.outermost = None
            _stand()

    def update(self, items: float = 1) -> None:
        """Count items that are done."""
        self.reach(self._count + items)

    def reach(self, count: float, total: float | None = None) -> None:
        """Set how many are done, and, if the total has become another, that as well."""
        if total is not None and self._total:
            # What was done before counts as much of the new total as of the old one.
            self._first *= total / self._total
        self._total = self._total if total is None else total
        self._count = count
        if self._bar is not None:
            self._bar.update()
        elif _shown.outermost is self:
            self.say(lambda: self.line(None))

    def note(self, *parts: str) -> None:
        """Set what stands beside the bar: the first parts, as many as there is room for."""
        self._note = parts

    def say(self, line: Any, *, surely: bool = False) -> None:
        """Log a line that stays, unless the last one is too fresh.

        Args:
            line: The line, or what makes it.
            surely: Log it in any case.
        """
        now = time.monotonic()
        pause = min(max(_EVERY_S, _GROWTH * (now - _shown.began)), _SELDOM_S)
        if surely or (_shown.outermost is self and now - _shown.said >= pause):
            _shown.said = now
            log.info("%s", line() if callable(line) else line)

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end of all parts; None when they can't be told."""
        done = self._count - self._first
        if not self._total or done <= 0:
            return None
        left = (self._parts - self._part) * self._total - self._count
        return max(0.0, left * (time.monotonic() - self._began) / done)

    def line(self, columns: int | None) -> str:
        """All of it in one line.

        Args:
            columns: Room that there is; None for as much as it takes, without a bar.
        """
        parts = [self._place, self.what]
        if self._parts > 1:
            parts.append(f"({self._part + 1} of {self._parts})")
        head = " ".join(filter(None, parts))
        if not self._total:
            return f"{head}: {self._count:,.0f} done"[: columns or None]
        share = min(1.0, (self._part + self._count / self._total) / self._parts)
        left = self.seconds_left
        tail = "" if not left else f", {readable_seconds(max(1, left))} left"
        text = f"{head}: {share:4.0%}{tail}"
        if columns is None:
            return "; ".join(filter(None, (text, ", ".join(self._note))))
        if columns < _NARROW:
            shorter = (text, text.removesuffix(" left"), f"{head}: {share:4.0%}")
            return next((one for one in shorter if len(one) <= columns), text[:columns])
        notes = (", ".join(self._note[:count]) for count in range(len(self._note), 0, -1))
        note = next((f"  {one}" for one in notes if len(text) + len(one) + 2 <= columns), "")
        room = columns - len(text) - len(note) - 4
        bar = f"  [{'#' * round(share * room):.<{room}}]" if room >= _ROOM else ""
        return (text + bar + note)[:columns]


def tracked(
    items: Iterable[Item], what: str, total: int | None = None, *, shown: bool = True
) -> Iterator[Item]:
    """The items one after another, with a bar.

    Args:
        items: Any; their number is asked for if ``total`` isn't given.
        what: What is done with them, as in ``drawing maps``.
        total: How many there are.
        shown: False shows nothing.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(what, total, shown=shown) as progress:
        for item in items:
            yield item
            progress.update()


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silence others' loggers within the block, where the one line that matters is ours."""
    levels = {one: one.level for one in map(logging.getLogger, loggers)}
    for one in levels:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in levels.items():
            one.setLevel(level)


@contextmanager
def part(number: int, count: int) -> Iterator[None]:
    """Within it, the work is one of several equal parts: part ``number``, from 0, of ``count``."""
    before, _shown.part = _shown.part, (number, count)
    try:
        yield
    finally:
        _shown.part = before


def close_open() -> None:
    """Take away what is still shown: an error may keep alive what opened it."""
    was_open = _shown.outermost
    set_place("")
    if was_open is not None:
        was_open.__exit__()
        if stream.columns is not None:  # Ctrl-C may have come before tqdm knew of its bar
            sys.stderr.write("\r" + " " * (stream.columns - 1) + "\r")


def at_work() -> str:
    """What the run is doing, as ``set_place`` was told; empty between its nodes."""
    return _shown.work


def set_place(place: str, work: str = "") -> None:
    """Say where in a run this process is.

    Args:
        place: As in ``7 of 33``; stands before every bar.
        work: What is done there, as in ``pack chips``; stands on a terminal while there is no bar.
    """
    _shown.place, _shown.work = place, work
    _stand()


def _stand() -> None:
    if _shown.standing is not None:
        _shown.standing.close()
        _shown.standing = None
    if _shown.work and _shown.outermost is None and sys.stderr.isatty():
        text = f"{_shown.place} {_shown.work} ...".strip()
        _shown.standing = _Bar(lambda columns: text[:columns])


class _Bar(tqdm):
    """tqdm takes care of the terminal; the line is ours."""

    def __init__(self, line: Callable[[int], str]) -> None:
        self._line = line
        super().__init__(file=sys.stderr, leave=False)

    def __str__(self) -> str:
        return self._line((stream.columns or 80) - 1)
