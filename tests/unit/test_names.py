"""Names that the source must not use: each was replaced by a term of the field."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import object2vec

PACKAGE = Path(object2vec.__file__).parent
BY_TOPIC = {
    "gradients": "slope leave_gradients output_of Touched touched collects take_back add_gradient _directly unmoved",
    "training": "Ahead Best Exchange FAREWELL Saved _judge facts go_on hand_out judged watched",
    "data": "_beside _plainly alike among_first distinct odd",
    "serving": "LEAVING Lookup Question Turns Wishes goes_with let_go",
    "files and configuration": "ASIDE Anything Flag Several WANTED _blaming heeded last_resort notices write_whole",
    "constants without a unit": "KEPT LARGEST LINES LONGEST MOST PATIENCE TOGETHER",
    "structs of C": "Moved Share Way",
}
OLD_NAMES = frozenset(" ".join(BY_TOPIC.values()).split())
#: Still in use; to be empty.
REMAINING = "Metrics.of TOGETHER Tokens.of facts"


def python_names(text: str) -> Iterator[str]:
    """Yield the identifiers of a Python module; a class method called `of` is yielded with its class."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ClassDef(name=name, body=body):
                yield name
                yield from (f"{name}.of" for each in body if isinstance(each, ast.FunctionDef) and each.name == "of")
            case ast.FunctionDef(name=name) | ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str(name)):
                yield name


def c_names(text: str) -> set[str]:
    """Return the words of a C source without its comments."""
    return set(re.findall(r"\w+", re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)))


def old_names(text: str, suffix: str) -> set[str]:
    names = set(python_names(text)) if suffix == ".py" else c_names(text)
    return {name for name in names if name in OLD_NAMES or name.endswith(".of")}


def test_old_names_are_not_used() -> None:
    """No module and no C source uses an old name, and no constructor is called `of`."""
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".c", ".h")]
    found = {path.relative_to(PACKAGE).as_posix(): old_names(path.read_text(), path.suffix) for path in files}
    new = {path: names - set(REMAINING.split()) for path, names in found.items()}
    assert {path: names for path, names in new.items() if names} == {}


def test_old_names_are_recognized() -> None:
    """Identifiers are found wherever they are; words in comments and docstrings do not count."""
    text = 'class A:\n    """Touched."""\n    def of(cls, odd): return slope(KEPT=1).touched  # Best\n'
    assert old_names(text, ".py") == {"A.of", "odd", "slope", "KEPT", "touched"}
    assert old_names("/* Best */ struct Way { int Share; };", ".c") == {"Way", "Share"}
