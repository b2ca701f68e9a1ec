"""Fuzz a target, guided by the branches that inputs reach: `fuzz.py TARGET [libFuzzer's options and folders]`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
with atheris.instrument_imports(include=["object2vec"]):
    import targets


def main() -> None:
    target = targets.TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, lambda data: targets.run(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
