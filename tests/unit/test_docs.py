"""The documentation agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from object2vec.hyperparameters.table import to_markdown

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("ours", [False, True], ids=["built-in", "ours"])
def test_hyperparameter_tables_equal_those_of_the_code(ours: bool) -> None:
    page = (ROOT / "docs/hyperparameters.md").read_text(encoding="utf-8")
    assert f"\n{to_markdown(ours=ours)}\n" in page


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
