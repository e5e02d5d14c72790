"""What happens around every run: misspelt parameters are refused, errors are sentences."""

import re
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from traceback import TracebackException
from types import TracebackType
from typing import Any

import yaml
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException

from biomassters.conf_files import require_readable
from biomassters.console import stream
from biomassters.errors import BadInputError
from biomassters.progress_bar import close_open
from biomassters.redaction import redact
from biomassters.run_lines import shown_path

_RUNTIME_PARAMETER = re.compile(r"runtime_params:\s*([\w.]+)")
_KEDRO_PREFIX = re.compile(
    r"^- Parameter '([\w.]+)': Failed to instantiate .*?'\1': ", re.MULTILINE
)


def dotted_names(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of a nested mapping, as ``a``, ``a.b``, ``a.b.c``."""
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from dotted_names(value, f"{prefix}{key}.")


def unknown_parameters(given: Mapping[str, Any], known: set[str]) -> list[str]:
    """Sentences for the parameters that nothing reads.

    Args:
        given: The parameters of a run, nested.
        known: Dotted names of every parameter that exists.

    Returns:
        One sentence for each unknown name, with the closest known one.
    """
    sentences = []
    for name in dotted_names(given):
        parent = name.rpartition(".")[0]
        if name in known or (parent and parent not in known):
            continue
        close = _closest(name, known)
        hint = f"did you mean '{close}'?" if close else "conf/base lists every parameter."
        sentences.append(f"There is no parameter '{name}'; {hint}")
    return sentences


def _closest(name: str, known: set[str]) -> str | None:
    """The known name most like it: among its neighbours first, also by initials (lr)."""
    parent, dot, leaf = name.rpartition(".")
    leaves = {other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == parent}
    by_initials = [other for other in leaves if "".join(w[:1] for w in other.split("_")) == leaf]
    near = by_initials or get_close_matches(leaf, leaves, n=1)
    anywhere = get_close_matches(name, known - {parent}, n=1)
    return f"{parent}{dot}{near[0]}" if near else next(iter(anywhere), None)


def known_parameters(conf_source: Path) -> set[str]:
    """Dotted names of every parameter that exists.

    Those are the ones in the parameter files of ``conf/base``, and those that a catalog takes
    from the command line alone, such as ``raw_root``. The files are read as plain YAML: a
    second config loader would take over the first one's global resolvers.
    """
    known: set[str] = set()
    for file in (conf_source / "base").rglob("parameters*.yml"):
        known |= set(dotted_names(yaml.safe_load(file.read_text()) or {}))
    for file in conf_source.rglob("*.yml"):
        known |= set(_RUNTIME_PARAMETER.findall(file.read_text()))
    return known


class ParameterNameCheck:
    """Refuses parameters that nothing reads.

    Kedro takes any name on the command line and drops the ones it doesn't know. Here
    ``conf/base`` lists every parameter, and environments and ``--params`` only override.
    """

    @hook_impl(tryfirst=True)  # others read the parameters, too
    def after_context_created(self, context: KedroContext) -> None:
        """Look at the files, then compare parameter names with those of ``conf/base``."""
        loader: Any = context.config_loader
        conf_source = Path(loader.conf_source)
        environment = loader.env or loader.default_run_env
        require_readable(conf_source / loader.base_env, conf_source / environment)
        known = known_parameters(conf_source)
        try:
            parameters = loader["parameters"]
        except (OmegaConfBaseException, ValueError) as error:
            said = " ".join(str(error).split()).rstrip(".")
            raise BadInputError(
                f"The parameter files can't be put together ({said}): correct them."
            ) from None
        sentences = unknown_parameters(parameters, known)
        if sentences:
            raise BadInputError(" ".join(sentences))


class PlainErrors:
    """Prints an error as one sentence, without a traceback if the user can mend it."""

    @hook_impl(tryfirst=True)
    def after_context_created(self) -> None:
        """Also where the run is not started by ``biomassters.cli``."""
        install_plain_errors()


def plain_message(error: BaseException) -> str | None:
    """The sentence to print instead of a traceback, or None when it is no user's error."""
    if isinstance(error, ParameterValidationError):
        lines = (_KEDRO_PREFIX.sub(r"Parameter \1.", line) for line in str(error).splitlines()[1:])
        return "\n".join(line.replace(".options: ", ": ", 1) for line in lines)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BadInputError):
            return str(seen)
        seen = seen.__cause__
    return _file_trouble(error)


def _file_trouble(error: BaseException) -> str | None:
    """What to say of a dataset that the file system doesn't give or take."""
    cause = _root_cause(error)
    if not (isinstance(error, DatasetError) and isinstance(cause, OSError)):
        return None
    name, where = str(error).partition(":")[0], cause.filename
    if isinstance(cause, FileNotFoundError):
        return (
            f"{name} is not there ({shown_path(where) if where else cause}): run the pipelines "
            "before this one first, in the same environment; without --pipelines, kedro runs them "
            "all."
        )
    place = shown_path(where) if where else name
    return (
        f"{place} can't be read or written ({cause.strerror or cause}): check the path, its "
        "permissions and the space on the disk, and run again."
    )


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def install_plain_errors() -> None:
    """Make every error that ends a program end in one sentence. Idempotent."""
    previous = sys.excepthook
    if getattr(previous, "prints_plain_errors", False):
        return

    def print_plainly(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        close_open()
        message = plain_message(error)
        if message is None and previous is not sys.__excepthook__:
            previous(kind, error, trace)  # of KEDRO_LOGGING_CONFIG's handler, such as rich
        else:
            if message is None:
                error = _root_cause(error)
                sys.stderr.write(
                    redact(_way_there(error))
                )  # code is not broken into lines of words
            stream.write(f"Error: {message or unexpected(error)}\n")

    print_plainly.prints_plain_errors = True  # type: ignore[attr-defined]
    sys.excepthook = print_plainly


def unexpected(error: BaseException) -> str:
    """A sentence on an error that is no user's; the traceback stands above it."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {said}' if said else ''} (see the lines of code above)."


def _way_there(error: BaseException) -> str:
    """The traceback without its last line, and without the frames of Kedro that lead to ours."""
    trace = error.__traceback__
    while trace is not None and not _is_ours(trace):
        trace = trace.tb_next
    written = TracebackException(type(error), error, trace or error.__traceback__)
    lines, last = list(written.format(chain=False)), list(written.format_exception_only())
    return "".join(lines[: -len(last)])


def _is_ours(trace: TracebackType) -> bool:
    path = Path(trace.tb_frame.f_code.co_filename)
    return path.is_relative_to(Path(__file__).parent) and path.stem not in ("cli", "__main__")
