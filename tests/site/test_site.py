"""The documentation site: built without a warning, nothing missing, every link leads somewhere."""

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from docs.site import build, reference
from kedro.framework.project import configure_project, pipelines
from kedro.pipeline import Pipeline

from biomassters.conf_files import dotted_names

CONF = Path(__file__).parents[2] / "conf"
# A form, a favicon and such things are Zensical's own; pages lead to the network only in a link.
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def found() -> dict[str, Pipeline]:
    configure_project("biomassters")
    return {name: one for name, one in pipelines.items() if name != "__default__"}


# ---- The reference


@pytest.fixture(scope="module")
def parameters(found) -> str:
    """The page of parameters, which takes longer to write than to read."""
    return reference.parameters_page(found)


def test_every_parameter_is_in_the_reference(parameters):
    missing = set()
    for file in CONF.glob("base/parameters*.yml"):
        content = yaml.safe_load(file.read_text())
        inner = {name.rpartition(".")[0] for name in dotted_names(content)}
        missing |= {
            n for n in dotted_names(content) if n not in inner and f"| `{n}`<br>" not in parameters
        }
    assert missing == set()


def test_an_option_is_there_with_type_default_and_meaning(parameters):
    lines = parameters.splitlines()
    (epochs,) = [line for line in lines if line.startswith("| `training.epochs`")]
    assert epochs == (
        "| `training.epochs`<br>whole number ≥ 1, default `18` | Passes over the training chips, "
        "in a stage that names none |"
    )
    (region,) = [line for line in lines if line.startswith("| `acquisition.region`")]
    assert "`us`, `eu`, `as`, default `eu`" in region


def test_what_only_the_command_line_sets_is_there(parameters):
    taken = set()
    for file in CONF.glob("base/catalog*.yml"):
        taken |= set(re.findall(r"runtime_params:\s*(\w+)", file.read_text()))
    assert taken
    assert {name for name in taken if f"| `{name}` |" not in parameters} == set()


def test_every_dataset_is_there_with_its_place(found):
    page = reference.datasets_page(found)
    for file in CONF.glob("base/catalog*.yml"):
        for name in yaml.safe_load(file.read_text()):
            assert f"### `{name}` {{" in page
    assert (
        "- `data/05_model_input/<dataset>/chips.zarr`\n- another place: `--params chip_store=…`"
        in page
    )
    assert "${" not in page


def test_every_pipeline_is_there_with_its_nodes(found):
    page = reference.pipelines_page(found)
    for name, pipeline in found.items():
        assert f"\n## {name}\n" in page
        assert {node.name for node in pipeline.nodes if f"| `{node.name}`<br>" not in page} == set()


def test_every_module_has_its_place():
    text = "".join(reference.python_pages().values())
    named = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    assert named == {name for name in reference.modules() if name != "biomassters.__main__"}


# ---- The pages


def test_every_page_is_in_the_navigation():
    names = [*build.pages(), *reference.python_pages(), "how_to/not_listed.md"]
    navigation = build.configuration(names)["nav"]
    results = {name for name in names if name.startswith(build.RESULTS)}
    assert set(names) - results <= set(build.paths(navigation))


def test_links_keep_their_meaning(tmp_path):
    for folder in ("docs/how_to", "src/biomassters/network"):
        (tmp_path / folder).mkdir(parents=True)
    source = build.REPOSITORY / "docs/how_to/index.md"
    text = build.relinked(
        "[a](../training.md#loss) [b](../../README.md) `[c](x)` [d](../../notebooks) "
        "[`e`](../../src/biomassters/network/agb_net.py) [f](../../conf/base) [g](#here) "
        "[h](https://example.org) [i](../../deploy/slurm_training.sh)",
        source,
        tmp_path,
    )
    assert text == (
        "[a](../training.md#loss) [b](../overview.md) `[c](x)` d "
        "[`e`](../reference/python/biomassters.network.md#biomassters.network.agb_net) "
        "[f](../reference/parameters.md) [g](#here) "
        "[h](https://example.org) [i](../deploy/slurm_training.sh)"
    )
    assert (tmp_path / "deploy/slurm_training.sh").is_file()


# ---- The site


class Page(HTMLParser):
    """Links, anchors and what is loaded, of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given.get("id", ""), given.get("name", "")}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if given.get(LOADED.get(tag, ""), ""):
            self.loaded.add(given[LOADED[tag]])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preconnect"):
            self.loaded.add(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    for name in ("zensical", "mkdocstrings_handlers"):
        pytest.importorskip(name, reason=f"needs {name}: uv run --group docs pytest")
    folder = tmp_path_factory.mktemp("site")
    assert "No issues found" in build.build(folder)
    return folder / "site"


@pytest.fixture(scope="module")
def read(site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


@pytest.mark.slow
def test_every_link_leads_somewhere(site, read):
    broken = []
    for path, page in read.items():
        for link in page.links:
            target, _, anchor = unquote(link).partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            other = (path.parent / target).resolve() if target else path
            if other.is_dir():
                other /= "index.html"
            if not other.is_file() or (other in read and anchor not in read[other].anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site, read):
    assert {one for page in read.values() for one in page.loaded if "//" in one} == set()
    missing = [
        f"{path.relative_to(site)}: {one}"
        for path, page in read.items()
        for one in page.loaded
        if not one.startswith("data:") and not (path.parent / unquote(one)).resolve().is_file()
    ]
    assert missing == []


@pytest.mark.slow
def test_every_public_function_class_and_method_is_on_the_site(read):
    anchors = {anchor for page in read.values() for anchor in page.anchors}
    public = {name for module in reference.modules() for name in public_names(module)}
    assert {
        "biomassters.api.predict_chip",
        "biomassters.network.weights.load_network",
        "biomassters.metrics.scores.ScoreAccumulator",
    } <= public
    assert sorted(public - anchors) == []


def public_names(module: str) -> Iterator[str]:
    """What a module defines for others, as its source says: nothing need be imported."""
    path = build.REPOSITORY / "src" / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

    def below(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, kinds) and not node.name.startswith("_"):
                yield f"{prefix}.{node.name}"
                if isinstance(node, ast.ClassDef):
                    yield from below(node.body, f"{prefix}.{node.name}")

    if not module.endswith("__main__"):
        yield from below(ast.parse(path.read_text()).body, module)
