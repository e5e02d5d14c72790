"""Pages of the reference, made from the code: parameters, datasets, pipelines, Python modules."""

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from kedro.framework.project import configure_project, pipelines
from kedro.pipeline import Pipeline
from kedro.validation.type_extractor import TypeExtractor
from pydantic.fields import FieldInfo

from biomassters.lineage.tracking import TrackingOptions
from biomassters.options import Options

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "src/biomassters"
BASE = REPOSITORY / "conf/base"
PYTHON = "reference/python/"
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "a multiple of"}
_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}
_BOX, _HEIGHT, _ROW = 190, 30, 70  # of the pictures, in pixels


def pages() -> dict[str, str]:
    """The text of every page, by its path on the site."""
    configure_project("biomassters")
    found = {name: one for name, one in pipelines.items() if name != "__default__"}
    return {
        "reference/parameters.md": parameters_page(found),
        "reference/datasets.md": datasets_page(found),
        "reference/pipelines.md": pipelines_page(found),
        **python_pages(),
    }


# ---- Parameters


def parameter_models(found: dict[str, Pipeline]) -> dict[str, type[Options]]:
    """The options models by top-level parameter, as the nodes take them."""
    models: dict[str, Any] = TypeExtractor(found).extract_types_from_pipelines()
    return dict(sorted({"tracking": TrackingOptions, **models}.items()))  # a hook's, not a node's


def options_of(model: type[Options], name: str) -> Iterator[tuple[str, FieldInfo]]:
    """Every option with its dotted name, those inside others too."""
    for field_name, field in model.model_fields.items():
        dotted = f"{name}.{field_name}"
        if _is_model(field.annotation):
            yield from options_of(field.annotation, dotted)
        else:
            yield dotted, field
            for entry in filter(_is_model, get_args(field.annotation)):
                yield from options_of(entry, f"{dotted}[]")


def _is_model(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, Options)


def parameters_page(found: dict[str, Pipeline]) -> str:
    """A table of options for each file of `conf/base`, then what only the command line sets."""
    lines = [
        "# Parameters",
        """\
Each stands in `conf/base` with its default. Another value comes from an environment's file or the
command line: `--params training.epochs=40`. A list is written `a/b` there; `[]` stands for each
entry of one. Names that don't exist and values that don't fit are refused before anything runs.""",
    ]
    models = parameter_models(found)
    for file in sorted(BASE.glob("parameters*.yml")):
        lines.append(f"## {file.stem.removeprefix('parameters_').replace('_', ' ').capitalize()}")
        lines.append(f"`conf/base/{file.name}`: {_comment(file.read_text())}")
        rows = []
        for name, value in yaml.safe_load(file.read_text()).items():
            if name in models:
                rows += [_option_row(*option) for option in options_of(models[name], name)]
            else:
                meaning = _comment(file.read_text(), name)
                rows.append((f"`{name}`<br>default `{_plain(value)}`", meaning))
        lines.append(_table(("option", "meaning"), rows))
    lines += [
        "## Names and folders",
        f"`conf/base/globals.yml`: {_comment((BASE / 'globals.yml').read_text())}",
    ]
    text = (BASE / "globals.yml").read_text()
    names = yaml.safe_load(text)
    rows = [
        (f"`{name}`<br>default `{_plain(value)}`", _comment(text, name))
        for name, value in names.items()
    ]
    lines.append(_table(("name", "meaning"), rows))
    lines += [
        "## On the command line alone",
        "They give a dataset another place for one run: `--params chip_store=PATH`.",
    ]
    taken = sorted(
        (override, name) for name, entry in datasets().items() for override in entry["overrides"]
    )
    rows = [
        (f"`{override}`", _linked(name for other, name in taken if other == override))
        for override in sorted({override for override, _ in taken})
    ]
    lines.append(_table(("name", "place of"), rows))
    return "\n\n".join(lines) + "\n"


def _option_row(name: str, field: FieldInfo) -> tuple[str, ...]:
    default = field.get_default(call_default_factory=True)
    meaning = (field.description or "").rstrip(".")
    kind = _kind(field.annotation, field.metadata)
    usual = "required" if field.is_required() else f"default `{_plain(default)}`"
    return f"`{name}`<br>{kind}, {usual}", meaning


def _kind(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in words, with its bounds."""
    bounds = [
        f"{sign} {_number(getattr(one, attribute))}"
        for one in metadata
        for attribute, sign in _BOUNDS.items()
        if getattr(one, attribute, None) is not None
    ]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        words = " or ".join(_kind(one) for one in inner if one is not NoneType)
        bounds.append("or null")
    elif origin is Literal:
        return ", ".join(f"`{one}`" for one in inner)
    elif origin is tuple:
        words = f"{'list' if Ellipsis in inner else f'{len(inner)} values'}, each {_kind(inner[0])}"
    elif hasattr(annotation, "__metadata__"):
        return _kind(inner[0], getattr(inner[1], "metadata", ()))
    else:
        words = "entry" if _is_model(annotation) else _WORDS[annotation]
    return " ".join([words, ", ".join(bounds)]).strip()


def _number(value: float) -> str:
    return "2^32" if value == 2**32 else f"{value:,}"


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value or "''"

    def fields(model: Options) -> dict[str, Any]:
        return model.model_dump(exclude_unset=True)

    return json.dumps(value, default=fields).replace('"', "")


def _comment(text: str, name: str = "") -> str:
    """The comment above a top-level name, or that at the top of a file."""
    if name:
        found = re.search(rf'((?:^#.*\n)*)^"?{re.escape(name)}"?:', text, re.MULTILINE)
    else:
        found = re.match(r"((?:#.*\n)*)\n", text)
    lines = found[1].splitlines() if found else []
    return " ".join(line.removeprefix("#").strip() for line in lines)


# ---- Datasets


def datasets() -> dict[str, dict[str, Any]]:
    """Every entry of the catalog: file, type, place, what sets another place, its comment."""
    found = {}
    for file in sorted(BASE.glob("catalog*.yml")):
        text = file.read_text()
        for name, entry in yaml.safe_load(text).items():
            entry = {"filepath": entry} if isinstance(entry, str) else entry  # a part of places
            place = str(entry.get("filepath", ""))
            found[name] = {
                "file": file,
                "type": entry.get("type"),
                "place": _resolved(place),
                "overrides": re.findall(r"runtime_params:\s*(\w+)", place),
                "comment": _comment(text, name),
            }
    return found


def _resolved(place: str) -> str:
    """A path as people read it, with its defaults."""
    place = place.replace("${_run}", "<run>")
    while found := re.search(r"\$\{(globals|runtime_params):\s*(\w+)(?:,\s*([^${}]*))?\}", place):
        default = (found[3] or "").strip('" ')
        value = default if found[1] == "runtime_params" else default or f"<{found[2]}>"
        place = place.replace(found[0], value)
    return place


def datasets_page(found: dict[str, Pipeline]) -> str:
    """What lies where, who writes it and who reads it."""
    nodes = {node.name: node for one in found.values() for node in one.nodes}.values()
    lines = [
        "# Datasets",
        """\
What the pipelines read and write, by the file of the catalog that lists it. `<dataset>` is the
environment's `dataset` in `globals.yml`, for the default run `simulated`, `<run>` the same or what
`--params run=NAME` names, and `<raw_root>` the archive. What lies in memory is passed on within a
run and never on disk.""",
    ]
    last = None
    for name, entry in datasets().items():
        if entry["file"] != last:
            last = entry["file"]
            title = last.stem.removeprefix("catalog_").replace("_", " ").capitalize()
            lines += [f"## {title}", f"`conf/base/{last.name}`: {_comment(last.read_text())}"]
        written = [n.name for n in nodes if any(_stands_for(name, one) for one in n.outputs)]
        read = [n.name for n in nodes if any(_stands_for(name, one) for one in n.inputs)]
        facts = [f"`{entry['place']}`" if entry["place"] else "memory"]
        facts += [f"another place: `--params {one}=…`" for one in entry["overrides"]]
        facts += [f"type `{entry['type']}`"] * bool(entry["type"])
        facts += [f"written by {_codes(written)}"] * bool(written)
        facts += [f"read by {_codes(read)}"] * bool(read)
        lines += [f"### `{name}` {{ #{_anchor(name)} }}", entry["comment"]]
        lines.append("\n".join(f"- {fact}" for fact in facts))
    return "\n\n".join(filter(None, lines)) + "\n"


def _stands_for(entry: str, name: str) -> bool:
    """Whether an entry of the catalog, which may be a pattern, is that of a dataset."""
    pattern = re.sub(r"\\\{\w+\\\}", r"\\w+", re.escape(entry))
    return any(re.fullmatch(pattern, one) for one in (name, name.partition("@")[0]))


# ---- Pipelines


def pipelines_page(found: dict[str, Pipeline]) -> str:
    """Every pipeline with its picture and its nodes."""
    lines = [
        "# Pipelines",
        """\
`uv run kedro run` runs `simulation` and `from_archive`; `--pipelines NAME` runs one, `--nodes NAME`
a part of one. A line leads from a node that makes something down to one that takes it.""",
    ]
    for name, pipeline in sorted(found.items()):
        module = importlib.import_module(f"biomassters.pipelines.{name}.pipeline")
        parts = {node.namespace.partition(".")[0] for node in pipeline.nodes if node.namespace}
        whole = len(parts) > 1
        lines += [f"## {name}", _first_line(module), _picture(pipeline, name, whole)]
        own = [node for node in pipeline.nodes if not whole or node.namespace == name]
        if whole:
            links = ", ".join(f"[{part}](#{part})" for part in sorted(parts - {name}))
            more = ", and these:" if own else "."
            lines.append(f"{len(pipeline.nodes)} nodes, those of {links}{more}")
        if own:
            rows = [
                (
                    f"`{node.name}`<br>{_first_line(node.func)}",
                    _linked(node.inputs),
                    _linked(node.outputs),
                )
                for node in own
            ]
            lines.append(_table(("node", "takes", "makes"), rows))
    return "\n\n".join(lines) + "\n"


def _first_line(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _linked(names: Iterable[str]) -> str:
    """Datasets and parameters, each leading to its place in the reference."""
    known = datasets()
    links = []
    for name in names:
        entry = next((one for one in known if _stands_for(one, name)), None)
        if name.startswith("params:"):
            links.append(f"[`{name}`](parameters.md)")
        else:
            links.append(f"[`{name}`](datasets.md#{_anchor(entry)})" if entry else f"`{name}`")
    return ",<br>".join(links)


def _picture(pipeline: Pipeline, title: str, whole: bool) -> str:
    """The nodes as boxes, or the pipelines that it is joined from, in the order of their work."""

    def box(node: Any) -> str:
        return str(node.namespace).partition(".")[0] if whole else node.name.rpartition(".")[2]

    makers = {name.partition("@")[0]: box(node) for node in pipeline.nodes for name in node.outputs}
    edges = {
        (makers[name.partition("@")[0]], box(node))
        for node in pipeline.nodes
        for name in node.inputs
        if name.partition("@")[0] in makers
    }
    edges = {(one, other) for one, other in edges if one != other}
    level: dict[str, int] = {}
    for node in pipeline.nodes:  # in an order in which makers come first
        before = [level[one] for one, other in edges if other == box(node) and one in level]
        level[box(node)] = max([level.get(box(node), 0), *(number + 1 for number in before)])
    rows: dict[int, list[str]] = {}
    for name, number in level.items():
        rows.setdefault(number, []).append(name)
    width = max(len(row) for row in rows.values()) * _BOX
    at = {
        name: (width * (place + 0.5) / len(row), _ROW * number + 20)
        for number, row in rows.items()
        for place, name in enumerate(row)
    }
    drawn = []
    for one, other in sorted(edges):
        (x, y), (to_x, to_y) = at[one], at[other]
        bottom, middle = y + _HEIGHT / 2, (y + to_y) / 2
        drawn.append(f'<path d="M{x:g} {bottom:g}C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} '
                     f'{to_y - _HEIGHT / 2:g}"/>')  # fmt: skip
    for name, (x, y) in at.items():
        corner = f'x="{x - _BOX / 2 + 5:g}" y="{y - _HEIGHT / 2:g}"'
        drawn.append(f'<rect {corner} width="{_BOX - 10}" height="{_HEIGHT}" rx="4"/>')
        drawn.append(f'<text x="{x:g}" y="{y + 4:g}">{name.replace("_", " ")}</text>')
    height = _ROW * max(rows) + 40
    return (
        f'<svg class="pipeline" role="img" aria-label="The nodes of {title}" width="{width}" '
        f'viewBox="0 0 {width} {height}">{"".join(drawn)}</svg>'
    )


# ---- Python


def modules() -> dict[str, str]:
    """Every module that has something to say: first line by dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        found[name.removesuffix(".__init__")] = " ".join(docstring.split("\n\n")[0].split())
    return found


def module_page(module: str) -> str:
    """Where a module stands: page and anchor."""
    return f"{PYTHON}{_room(module)}.md#{module}"


def _room(module: str) -> str:
    """The package that a module lies in and that has a page; all pipelines share one."""
    if module.startswith("biomassters.pipelines."):
        return "biomassters.pipelines"
    return module if _is_package(module) else module.rpartition(".")[0]


def _is_package(module: str) -> bool:
    return (REPOSITORY / "src" / module.replace(".", "/")).is_dir()


def python_pages() -> dict[str, str]:
    """A page a package, and one that lists them."""
    rooms: dict[str, list[str]] = {}
    first_lines = modules()
    for module in first_lines:
        if not module.endswith("__main__"):
            rooms.setdefault(_room(module), []).append(module)
    pages = {}
    for room, names in rooms.items():
        parts = [f"::: {name}\n    options:\n      heading_level: 2\n" for name in names]
        title = f"# {room.removeprefix('biomassters.')}\n"
        pages[f"{PYTHON}{room}.md"] = "\n".join([title, *parts])
    rows = [(f"[{room}]({room}.md)", first_lines[room]) for room in rooms]
    pages[f"{PYTHON}index.md"] = """\
# Python

Every public function and class, by package: arguments with their shapes and units, what is
returned, what is raised. [Architecture](../../architecture.md) tells how the packages fit together.

""" + _table(("package", "what it is for"), rows)
    return pages


# ---- Markdown


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _anchor(name: str) -> str:
    return re.sub(r"[^\w]+", "-", name).strip("-")
