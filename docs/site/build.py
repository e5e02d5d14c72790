"""Build the documentation site: `uv run --group docs python -m docs.site.build [FOLDER]`.

The pages are the repository's own; `reference` makes those that come from the code. Links lead
where they lead in the repository, those into `src` to the module's page. FOLDER (`build/docs`) then
holds `site`, which needs no network: `python -m http.server --directory build/docs/site`. Opened as
files, its pages work without their search.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docs.site import reference

REPOSITORY = Path(__file__).parents[2]
RESULTS = "benchmarks/results"
# What a link to a folder leads to on the site.
FOLDERS = {
    "conf/base": "reference/parameters.md",
    "src/biomassters": f"{reference.PYTHON}index.md",
    "src/biomassters/pipelines": "reference/pipelines.md",
    RESULTS: f"{RESULTS}/index.md",
}
# Zensical lets pages load this from the network, for the search in pages opened as files.
SHIM = re.compile(r'<script src="https://unpkg.com/iframe-worker/shim"[^>]*></script>')
# Code, which stays as it is, or a link or image.
_LINK = re.compile(
    r"(?ms:^```.*?^```$)"
    r"|(?P<before>\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\(|src=\")(?P<target>[^)\"\s]+)(?P<after>[)\"])"
    r"|`[^`\n]+`"
)


def pages() -> dict[str, Path]:
    """The repository's pages, by the path that each has on the site."""
    found = [
        *REPOSITORY.glob("docs/**/*.md"),
        *REPOSITORY.glob(f"{RESULTS}/*.md"),
        *(
            REPOSITORY / f"{name}.md"
            for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")
        ),
    ]
    return {place(path): path for path in sorted(found)}


def place(path: Path) -> str:
    """Where a file of the repository lies on the site."""
    name = path.relative_to(REPOSITORY).as_posix()
    if name in FOLDERS:
        return FOLDERS[name]
    if name == "README.md":
        return "overview.md"
    if module := re.fullmatch(r"src/(biomassters/.+)\.py", name):
        return reference.module_page(module[1].replace("/", "."))
    return name.removeprefix("docs/")


def stage(folder: Path) -> None:
    """Write all pages, their images and the configuration to a folder."""
    target = folder / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    generated = reference.pages()
    for name, source in pages().items():
        _write(target / name, relinked(source.read_text(), source, target))
    for name, text in generated.items():
        _write(target / name, text)
    results = sorted((REPOSITORY / RESULTS).glob("*.md"))
    rows = [f"- [{_title(path)}]({path.name})" for path in results]
    _write(target / RESULTS / "index.md", "# Measurements\n\n" + "\n".join(rows) + "\n")
    shutil.copy(Path(__file__).with_name("style.css"), target)
    _write(
        folder / "mkdocs.yml",
        yaml.safe_dump(configuration([*pages(), *generated]), sort_keys=False),
    )


def configuration(names: list[str]) -> dict[str, Any]:
    """That of `mkdocs.yml`, with every page in the navigation."""
    settings = yaml.safe_load(Path(__file__).with_name("mkdocs.yml").read_text())
    sections = {title: entry for one in settings["nav"] for title, entry in one.items()}
    listed = set(paths(settings["nav"]))
    rooms = [name for name in names if name.startswith(reference.PYTHON) and name not in listed]
    python = {"Python": [f"{reference.PYTHON}index.md", *rooms]}
    sections["Reference"][-1] = python
    others = [name for name in names if name not in {*listed, *rooms}]
    sections["How-to"] += [name for name in others if not name.startswith("benchmarks")]
    return settings


def paths(entry: Any) -> Iterator[str]:
    """The pages that a part of the navigation names."""
    if isinstance(entry, str):
        yield entry
    else:
        for one in entry.values() if isinstance(entry, dict) else entry:
            yield from paths(one)


def _title(page: Path) -> str:
    return page.read_text().partition("\n")[0].removeprefix("# ")


def relinked(text: str, source: Path, target: Path) -> str:
    """A page whose links lead to the places that files have on the site; code is left alone.

    Args:
        text: The page.
        source: Where it lies in the repository.
        target: Folder of the site's pages, which gets the files that it links to.
    """
    here = Path(place(source)).parent

    def moved(found: re.Match[str]) -> str:
        link, hash_, anchor = (found["target"] or "").partition("#")
        if "://" in link or not link:
            return found[0]
        path = (source.parent / link).resolve()
        where, _, module = place(path).partition("#")
        if path.is_dir() and where not in FOLDERS.values():
            return found["text"]  # a folder that the site doesn't have
        if path.is_file() and path.suffix != ".md" and not module:
            (target / where).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / where)
        relative = os.path.relpath(where, here) + (f"#{module}" if module else "")
        return f"{found['before']}{relative}{hash_}{anchor}{found['after']}"

    return _LINK.sub(moved, text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def build(folder: Path) -> str:
    """Stage and build; what Zensical said, which is an error where it warned.

    Raises:
        SystemExit: Zensical isn't installed, or found something wrong.
    """
    stage(folder)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"The site was not built:\n{done.stdout}{done.stderr}")
    for page in (folder / "site").rglob("*.html"):
        page.write_text(SHIM.sub("", page.read_text()))
    return done.stdout + done.stderr


if __name__ == "__main__":
    place_ = Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs").resolve()
    sys.stdout.write(build(place_))
    sys.stdout.write(f"{place_ / 'site/index.html'}\n")
