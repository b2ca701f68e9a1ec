"""Project layout: directions of imports, their cost, and which modules read the environment."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import object2vec

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "object2vec"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: The modules that may read the environment, the arguments and signals.
SHELLS = [
    PACKAGE / name
    for name in (
        "ops/build.py",
        "cli.py",
        "explore/embedding_process.py",
        "training/graceful_shutdown.py",
        "threads.py",
        "sagemaker",
        "serving/server.py",
        "serving/gunicorn_hooks.py",
    )
]


@cache
def trees() -> dict[Path, ast.Module]:
    """Return the syntax tree of each module."""
    return {path: ast.parse(path.read_text()) for path in MODULES}


def test_import_contracts_are_kept() -> None:
    """Import-linter finds no import against the layers."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", ["object2vec", "object2vec.cli", "object2vec.sagemaker.training"])
def test_import_loads_no_slow_library(module: str) -> None:
    """Importing the package or its command loads neither torch nor flask, so that --help is fast."""
    code = f"import sys, {module}; print(*sorted({{'torch', 'flask', 'sagemaker_training'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_functions_and_files_are_short() -> None:
    """A function has at most 50 lines, a file 450."""
    functions = {
        f"{path.name}: {node.name}": node.end_lineno - node.lineno + 1
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.end_lineno
    }
    assert [name for name, lines in functions.items() if lines > 50] == []
    sources = [*MODULES, *PACKAGE.rglob("*.[ch]")]
    assert [path.name for path in sources if len(path.read_text().splitlines()) > 450] == []


def test_public_names_of_the_package() -> None:
    """The public names are those of the Python API and the version."""
    assert object2vec.__all__ == ["List", "Model", "Text", "Token", "__version__", "fit", "load"]
    assert all(getattr(object2vec, name) for name in object2vec.__all__)


def uses(tree: ast.AST) -> Iterator[str]:
    """Yield what a module uses of the environment, arguments, signals and the platform's paths."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv" | "putenv" as name):
                yield f"os.{name}"
            case ast.Attribute(value=ast.Name(id="sys"), attr="argv" | "exit" as name):
                yield f"sys.{name}"
            case ast.ImportFrom(module="os" | "sys" as module, names=names):
                yield from (f"{module}.{n.name}" for n in names if n.name in {"environ", "getenv", "argv", "exit"})
            case ast.Import(names=names) if any(n.name == "signal" for n in names):
                yield "signal"
            case ast.ImportFrom(module="signal"):
                yield "signal"
            case ast.Constant(value=str(text)) if text.startswith("/opt/ml"):
                yield text


def test_only_shells_read_the_environment() -> None:
    """Only the modules in SHELLS use the environment, arguments, signals and /opt/ml."""
    others = [path for path in MODULES if not any(path.is_relative_to(shell) for shell in SHELLS)]
    assert [(path, found) for path in others for found in uses(trees()[path])] == []


def test_use_of_the_environment_is_recognized() -> None:
    """Each kind of use is recognized."""
    text = (
        "import os, sys, signal\nfrom os import environ\nos.environ['A']; os.getenv('A'); sys.argv; sys.exit(1)\n"
        "X = '/opt/ml/model'\n"
    )
    found = {"os.environ", "os.getenv", "sys.argv", "sys.exit", "signal", "/opt/ml/model"}
    assert set(uses(ast.parse(text))) == found


def test_modules_have_no_effects_at_import() -> None:
    """The top level of a module has only imports, definitions, assignments and docstrings."""
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.If)
    for path, tree in trees().items():
        effects = [node for node in tree.body if not isinstance(node, allowed)]
        docstrings = [node for node in effects if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
        assert [ast.unparse(node) for node in effects if node not in docstrings] == [], path


def test_the_source_has_no_pickle_eval_or_assert() -> None:
    """No module of the package unpickles, evaluates text, or checks its input with assert."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Assert), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile"}, path
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "dill", "joblib"}, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
                assert node.attr not in {"load", "save"}, path


def test_every_module_has_a_docstring() -> None:
    """Each module begins with a docstring."""
    assert [path for path, tree in trees().items() if not ast.get_docstring(tree)] == []


def test_only_ops_choose_the_form_of_an_operation() -> None:
    """No module outside ops/ asks whether kernels are available or usable."""
    asks = re.compile(r"^(?!\s*def ).*\b(?:available|usable|readable|is_inference_mode_enabled)\(", re.MULTILINE)
    others = [path for path in MODULES if not path.is_relative_to(PACKAGE / "ops")]
    assert [(path, found) for path in others for found in asks.findall(path.read_text())] == []
