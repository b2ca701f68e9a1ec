"""Checkpoint files: what is found is what was saved, and nothing that is damaged or another job's is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from object2vec.atomic_files import STAGING_DIR
from object2vec.errors import UserError
from object2vec.training.checkpoints import Checkpoints
from object2vec.training.distributed import SINGLE_PROCESS

TENSORS = {"weights.a": torch.arange(6.0).view(2, 3), "optimizer.0.1.step": torch.tensor(7.0), "none": torch.ones(0, 2)}


def state(epoch: int, batch: int = 0) -> dict:
    tensors = {name: tensor + epoch for name, tensor in TENSORS.items()}
    return {"epoch": epoch, "batch": batch, "tensors": tensors, "losses": [0.1, 1 / 3], "best_epoch": None}


def saved(folder: Path, *places: tuple[int, int], **facts: object) -> Checkpoints:
    made = Checkpoints(folder, SINGLE_PROCESS)
    made.check_fingerprint(facts)
    for place in places:
        made.save(state(*place))
    return made


def test_what_is_found_is_what_was_saved(tmp_path: Path) -> None:
    """The newest one, each tensor to the last bit under its name, each value as it was."""
    saved(tmp_path / "new" / "folder", (1, 0), (0, 9), (1, 5))
    found = Checkpoints(tmp_path / "new" / "folder", SINGLE_PROCESS).find()
    assert found
    assert (found.values["epoch"], found.values["batch"]) == (1, 5)
    assert found.values["losses"] == [0.1, 1 / 3]
    assert found.values["best_epoch"] is None
    assert set(found.names("")) == set(TENSORS)
    assert found.names("optimizer.0.") == ["optimizer.0.1.step"]
    for name, tensor in TENSORS.items():
        assert torch.equal(found.new(name), tensor + 1)
    into = torch.zeros(2, 3)
    found.read("weights.a", into)
    assert torch.equal(into, TENSORS["weights.a"] + 1)


def test_the_files_are_plain(tmp_path: Path) -> None:
    """JSON that says where it is, and safetensors beside it, which anybody may read; nothing else is left there."""
    saved(tmp_path, (3, 17), epochs=3)
    names = ["checkpoint-003-000000017.json", "checkpoint-003-000000017.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    values = json.loads((tmp_path / names[0]).read_text())["values"]
    assert (values["epoch"], values["batch"], values["facts"]) == (3, 17, {"epochs": 3})
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_no_more_than_two_are_kept(tmp_path: Path) -> None:
    """The oldest go, and what was no good goes with them; what is no checkpoint stays."""
    (tmp_path / "notes").write_text("")
    (tmp_path / "checkpoint-900-000000000.safetensors").write_text("")
    saved(tmp_path, (0, 5), (1, 0), (2, 0))
    stems = {path.stem for path in tmp_path.iterdir()}
    assert stems == {"notes", "checkpoint-001-000000000", "checkpoint-002-000000000"}


def test_the_resumed_checkpoint_counts_as_one_of_the_two_kept(tmp_path: Path) -> None:
    """So that there is one to go back to after the first that is saved."""
    saved(tmp_path, (1, 0), (2, 0))
    made = Checkpoints(tmp_path, SINGLE_PROCESS)
    made.find()
    made.save(state(2, 8))
    assert {path.stem for path in tmp_path.iterdir()} == {"checkpoint-002-000000000", "checkpoint-002-000000008"}


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    """Half a file, however large, does not stay on the disk."""
    (tmp_path / STAGING_DIR).mkdir()
    (tmp_path / STAGING_DIR / "half").write_text("half")
    Checkpoints(tmp_path, SINGLE_PROCESS)
    assert list(tmp_path.iterdir()) == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change(path: Path) -> None:
    """Other numbers in a file that is as good as before."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.1", b"0.2") if path.suffix == ".json" else content[:-1] + b"?")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [truncate, flip, change, empty, Path.unlink])
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_broken_one_is_left_out(
    tmp_path: Path, spoil: Callable[[Path], object], suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If either file is damaged, a warning names it, and the checkpoint before it is found."""
    saved(tmp_path, (1, 0), (2, 0))
    path = tmp_path / f"checkpoint-002-000000000{suffix}"
    spoil(path)
    caplog.clear()
    found = Checkpoints(tmp_path, SINGLE_PROCESS).find()
    assert found
    assert found.values["epoch"] == 1
    if path.exists() or suffix == ".safetensors":
        (message,) = caplog.messages
        assert message.startswith(f"{path.with_suffix('.json')} is no whole checkpoint (")
        assert message.endswith("): it is left out")
    else:
        assert caplog.messages == []  # what is nowhere described is no checkpoint


@pytest.mark.parametrize("text", ["[]", '{"checksum": "x"}', '{"checksum": "x", "values": {}}', "[" * 10**6, "\udcff"])
def test_any_file_of_that_name_may_lie_there(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """JSON of another shape, or too deep, or no JSON, is a broken one."""
    (tmp_path / "checkpoint-002-000000000.json").write_bytes(text.encode(errors="surrogateescape"))
    assert Checkpoints(tmp_path, SINGLE_PROCESS).find() is None
    assert "is no whole checkpoint" in caplog.messages[0]


def test_another_job_s_is_refused(tmp_path: Path) -> None:
    """All that differs is named; what is only said later counts as well."""
    saved(tmp_path, (1, 0), width=3, depth=1, rate=0.1)
    made = Checkpoints(tmp_path, SINGLE_PROCESS)
    made.find()
    made.check_fingerprint({"rate": 0.1})
    with pytest.raises(UserError) as raised:
        made.check_fingerprint({"width": 4, "depth": 2})
    path = tmp_path / "checkpoint-001-000000000.json"
    what = f"{path} is a checkpoint of another job: width is 3 there and 4 here; depth is 1 there and 2 here"
    assert str(raised.value) == f"{what}; wanted the same configuration and data, or another folder for checkpoints"


def test_a_first_checkpoint_is_nobody_s(tmp_path: Path) -> None:
    """Where none is found a job may be any."""
    made = Checkpoints(tmp_path, SINGLE_PROCESS)
    assert made.find() is None
    made.check_fingerprint({"width": 4})


def test_within_an_epoch_it_takes_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is due five minutes after the last, and not before twenty times the time that this took."""
    now = 1000.0
    monkeypatch.setattr("object2vec.training.checkpoints.time.monotonic", lambda: now)
    made = Checkpoints(tmp_path, SINGLE_PROCESS)
    now = 1299.0
    assert not made.due
    now = 1300.0
    assert made.due

    class Slow(dict[str, torch.Tensor]):
        def items(self):  # the disk of this test takes a minute
            nonlocal now
            now += 60
            return super().items()

    made.save({"epoch": 1, "batch": 0, "tensors": Slow(TENSORS)})
    now += 1199
    assert not made.due
    now += 1
    assert made.due
