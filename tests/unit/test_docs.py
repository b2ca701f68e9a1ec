"""The documentation agrees with the code."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from object2vec.hyperparameters import TABLE

ROOT = Path(__file__).parents[2]
to_markdown = runpy.run_path(str(ROOT / "scripts/tables"))["to_markdown"]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("ours", [False, True], ids=["built-in", "ours"])
def test_hyperparameter_tables_equal_those_of_the_code(ours: bool) -> None:
    page = (ROOT / "docs/hyperparameters.md").read_text(encoding="utf-8")
    assert f"\n{to_markdown(ours=ours)}\n" in page


def test_markdown_tables_contain_each_row_once() -> None:
    """The two tables contain each row once, and all lines have equally many cells."""
    lines = to_markdown(ours=False).splitlines()[2:] + to_markdown(ours=True).splitlines()[2:]
    assert sorted(line.split("`")[1] for line in lines) == sorted(TABLE)
    assert {line.count("|") for line in lines} == {6}


def test_readme_has_at_most_200_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub writes them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:benchmarks|scripts|src|tests|container)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name


def layout() -> list[str]:
    """Return the paths in the layout of the architecture page, relative to the package, in their order."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    block = page.partition("\nsrc/object2vec/\n")[2].partition("\ncontainer/")[0]
    paths, folder = [], ""
    for line in block.splitlines():
        names = re.match(r" +((?:\w+(?:\.py|/) ?)+)", line)
        assert names, line
        if not line.startswith("    "):
            folder = names[1].strip() if names[1].strip().endswith("/") else ""
            paths.append(names[1].strip())
        else:
            paths += [f"{folder}{name}" for name in names[1].split()]
    return paths


def test_layout_lists_every_module_once() -> None:
    package = ROOT / "src/object2vec"
    modules = [str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(path for path in layout() if path.endswith(".py")) == sorted(modules)
    assert all((package / path).is_dir() for path in layout() if path.endswith("/"))


def test_layout_is_in_the_order_of_the_import_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    heights = {name.strip(): -number for number, layer in enumerate(layers) for name in layer.split("|")}
    names = [re.sub(r"\.py$|/$", "", path) for path in layout() if "/" not in path.rstrip("/")]
    assert {f"object2vec.{name}" for name in names} == set(heights)
    assert names == sorted(names, key=lambda name: heights[f"object2vec.{name}"])
