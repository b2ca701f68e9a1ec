"""What the fuzzer begins with, and what it has found: each input of its corpus, once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import targets

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_of_the_corpus(path: Path) -> None:
    """It is read as it should be, or refused with a sentence."""
    targets.run(targets.TARGETS[path.parent.name], path.read_bytes())


def test_the_targets_see_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that loses a record, and one that takes long, are found out."""
    data = (CORPUS / "lines" / "plain").read_bytes()
    monkeypatch.setattr(targets, "MAX_CPU_SECONDS", 0.0)
    with pytest.raises(AssertionError, match="it took"):
        targets.run(targets.lines, data)
    monkeypatch.setattr(targets, "written", lambda data, reader: [])
    with pytest.raises(AssertionError, match="other records than those that are written"):
        targets.lines(data)


def test_the_corpus_stays_small() -> None:
    """It is read at each run of the tests, and stands in the repository."""
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 20_000
