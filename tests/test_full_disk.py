"""A real disk that gets full, turns read-only or vanishes: training ends as it would without us."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.server.process import LoopbackServer
from tests.small_disk import Outcome, on_small_disk
from tests.syncing import command, printed

_BACK = """
run = wandbkeras.init(dir=disk, id="back", project="digits", entity="loopback")
log(run, 100)
fill(leave=8192)
log(run, 2000)
run.config["late"] = 1
run.summary["note"] = "while it was full"
run.define_metric("later", summary="max")
empty()
for value in (1, 3, 2):
    log(run, 30, later=value)
run.finish()
say(logged=run.step)
"""


@pytest.fixture(scope="module")
def back(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A log loop whose disk is full for a while."""
    return on_small_disk(tmp_path_factory.mktemp("back"), _BACK)


def test_a_full_disk_costs_the_rows_that_it_did_not_take(back: Outcome) -> None:
    """The process ends normally, says it once, and every row is recorded or counted."""
    assert back.code == 0, back.stderr
    (line,) = back.warnings
    assert "not everything is recorded from here on, training goes on" in line
    assert "No space left on device" in line
    run = back.run("back")
    steps = [row.step for row in run.rows()]
    assert (run.state, run.damage) == ("finished", [])
    assert steps[:100] == list(range(100))
    assert steps[-90:] == list(range(2100, 2190))
    assert 100 < run.folded.dropped == back.said["logged"] - len(steps) < 2000
    assert run.folded.dropped_events == 0
    assert list(run.path.rglob("*.wbk")) == list(run.path.rglob("*.tmp")) == []


def test_what_is_not_a_row_is_recorded_late(back: Outcome) -> None:
    """Config, summary and definitions of the time without room are there once there is some."""
    run = back.run("back")
    assert run.config == {"late": 1}
    assert run.summary["note"] == "while it was full"
    assert run.summary["later"] == {"max": 3}


def test_the_commands_say_what_was_not_recorded(
    back: Outcome, wandb_server: LoopbackServer, tmp_path: Path
) -> None:
    """``ls``, ``show``, ``verify`` and ``sync`` say so to people and to programs.

    What was recorded is sound, and arrives.
    """
    dropped = back.run("back").folded.dropped
    line = f"back: {dropped} rows could not be recorded\n"
    shown = command("show", "back", "--store", back.left)
    assert (shown.returncode, shown.stderr) == (0, line)
    verified = command("verify", back.left)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.endswith(f"; {dropped} rows could not be recorded\n")
    (run,) = printed(command("verify", back.left, "--json"))["runs"]
    assert (run["sound"], run["dropped"], run["dropped_events"]) == (True, dropped, 0)
    env = wandb_server.environ(tmp_path)
    for arguments in (["ls"], ["sync"]):
        said = command(*arguments, back.left, env=env)
        assert (said.returncode, said.stderr) == (0, line)
        (run,) = printed(command(*arguments, back.left, "--json", env=env))["runs"]
        assert (run["dropped"], run["dropped_events"]) == (dropped, 0)


def test_a_disk_that_stays_full(tmp_path: Path) -> None:
    """Room held from the beginning takes the counts and the exit code when the run ends."""
    done = on_small_disk(
        tmp_path,
        """
run = wandbkeras.init(dir=disk, id="full")
fill(leave=4096)
log(run, 3000)
run.summary["late"] = 1
say(logged=run.step)
""",
    )
    assert done.code == 0, done.stderr
    assert len(done.warnings) == 1
    run = done.run("full")
    assert (run.state, run.exit_code, run.damage) == ("finished", 0, [])
    assert run.row_count + run.folded.dropped == done.said["logged"] == 3000
    assert run.summary["late"] == 1


def test_what_the_run_can_not_tell_is_said(tmp_path: Path) -> None:
    """On a disk that was as good as full from the beginning, the count is on standard error."""
    done = on_small_disk(
        tmp_path,
        """
fill(leave=10 * 4096)
run = wandbkeras.init(dir=disk, id="full")
log(run, 5000)
fill()
run.config["late"] = 1
run.finish()
say(logged=run.step)
""",
    )
    assert done.code == 0, done.stderr
    _, line = done.warnings
    run = done.run("full")
    assert run.state == "crashed"
    assert run.folded.dropped == 0
    lost = done.said["logged"] - run.row_count
    assert f"{lost} rows and 1 other record are not recorded, nor how the run ended" in line
    assert "the run stays unsealed, its records are in the journal" in line


def test_a_run_goes_on_after_a_full_disk(tmp_path: Path) -> None:
    """The next attempt begins after the last row that was recorded; the counts add up."""
    done = on_small_disk(
        tmp_path,
        """
begin = "import wandbkeras, sys; run = wandbkeras.init(dir=sys.argv[1], id='on', resume='allow')"
fill(leave=96 * 1024)
for attempt in range(3):
    script = begin + "; [run.log({'a': 1.5}) for _ in range(2000)]; print(run.step)"
    if attempt == 1:
        fill(leave=80 * 1024)
    process = [sys.executable, "-c", script, str(disk)]
    ended = subprocess.run(process, capture_output=True, text=True)
    say(**{f"{attempt}": [ended.returncode, ended.stdout, ended.stderr]})
    empty()
""",
    )
    assert done.code == 0, done.stderr
    assert [done.said[name][0] for name in "012"] == [0, 0, 0]
    assert [done.said[name][2].count("\n") for name in "012"] == [1, 1, 0], done.said
    run = done.run("on")
    steps = [row.step for row in run.rows()]
    assert steps == sorted(set(steps))
    assert run.state == "finished"
    assert len(steps) + run.folded.dropped == 6000
    assert run.folded.dropped > 1000


def test_sealing_without_room(tmp_path: Path) -> None:
    """However much room there is at the end: the run is whole, and nothing is left of a failure."""
    leaves = [0, 4096, 16384, 32768, 65536, 131072, 262144]
    done = on_small_disk(
        tmp_path,
        f"""
import random
for leave in {leaves}:
    empty()
    run = wandbkeras.init(dir=disk, id=f"seal-{{leave}}")
    for _ in range(1500):
        run.log({{f"m{{i}}": random.random() for i in range(10)}})
    fill(leave)
    run.finish()
""",
        size="8m",
    )
    assert done.code == 0, done.stderr
    sealed = []
    for leave in leaves:
        run = done.run(f"seal-{leave}")
        found = (run.state, run.row_count, run.folded.dropped, run.damage)
        assert found == ("finished", 1500, 0, [])
        assert list(run.path.rglob("*.tmp")) == []
        journals, parts = list(run.path.rglob("*.wbk")), list(run.path.rglob("*.parquet"))
        assert bool(journals) != bool(parts)
        sealed.append(bool(parts))
    assert sealed == sorted(sealed)
    assert (sealed[0], sealed[-1]) == (False, True)
    assert len(done.warnings) == sealed.count(False)
    assert all("stays unsealed, its records are in the journal" in line for line in done.warnings)


def test_an_artifact_that_does_not_fit(tmp_path: Path) -> None:
    """It is counted, and leaves its room to the rows; a later one that fits is recorded."""
    done = on_small_disk(
        tmp_path,
        """
big, small, many = kept / "big", kept / "small", kept / "many"
big.write_bytes(os.urandom(3_000_000))
small.write_bytes(b"weights")
many.mkdir()
for number in range(3):
    (many / str(number)).write_bytes(os.urandom(900_000))
run = wandbkeras.init(dir=disk, id="files")
before = free()
run.log_artifact(big, name="big")
run.log_artifact(many, name="many")
say(taken=before - free())
log(run, 100)
run.log_artifact(small, name="small")
try:
    run.log_artifact(kept / "none")
except UsageError as error:
    say(error=str(error))
run.finish()
""",
    )
    assert done.code == 0, done.stderr
    (line,) = done.warnings
    assert "No space left on device" in line
    assert done.said["taken"] < 100_000
    assert "none" in done.said["error"]
    run = done.run("files")
    assert [artifact.name for artifact in run.artifacts] == ["small"]
    assert (run.row_count, run.folded.dropped, run.folded.dropped_events) == (100, 0, 2)
    said = command("ls", done.left).stderr
    assert said == "files: 2 records could not be recorded\n"


def test_a_disk_that_takes_no_more_files(tmp_path: Path) -> None:
    """Without a free inode the rows go on in the files that are open; an artifact is counted."""
    done = on_small_disk(
        tmp_path,
        """
weights = kept / "weights"
weights.write_bytes(b"weights")
run = wandbkeras.init(dir=disk, id="files")
made = []
while os.statvfs(disk).f_favail:
    made.append(disk / str(len(made)))
    made[-1].touch()
log(run, 100)
run.log_artifact(weights, name="weights")
log(run, 100)
for file in made:
    file.unlink()
run.log_artifact(weights, name="weights")
log(run, 100)
run.finish()
""",
        size="4m,nr_inodes=40",
    )
    assert done.code == 0, done.stderr
    (line,) = done.warnings
    assert "No space left on device" in line
    run = done.run("files")
    assert (run.state, run.row_count, run.damage) == ("finished", 300, [])
    assert (run.folded.dropped, run.folded.dropped_events) == (0, 1)
    assert [artifact.name for artifact in run.artifacts] == ["weights"]


def test_beginning_on_a_full_disk(tmp_path: Path) -> None:
    """``init`` makes a run that records, or says in one line why not and leaves nothing."""
    done = on_small_disk(
        tmp_path,
        """
config = {"text": "x" * 5000}
for blocks in range(16):
    fill(leave=4096 * blocks)
    for tight in (False, True):
        before = sorted(disk.iterdir())
        try:
            run = wandbkeras.init(dir=disk, id=f"run-{blocks}", config=config, resume="allow")
        except UsageError as error:
            assert sorted(disk.iterdir()) == before, list(disk.rglob("*"))
            say(**{str(blocks): str(error)})
            assert wandbkeras.run is None
        else:
            run.log({"loss": 0.5})
            run.finish()
            break
""",
    )
    assert done.code == 0, done.stderr
    assert "0" in done.said
    for text in done.said.values():
        assert re.fullmatch(r"dir '.*': no run can be written there \(.*\[Errno 28\].*\): .*", text)
    assert "15" not in done.said
    assert done.run("run-15").config == {"text": "x" * 5000}


def test_a_disk_that_can_not_be_written(tmp_path: Path) -> None:
    """``init`` on a read-only disk is one clear error."""
    done = on_small_disk(
        tmp_path,
        """
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
try:
    wandbkeras.init(dir=disk)
except UsageError as error:
    say(error=str(error))
""",
    )
    assert "no run can be written there" in done.said["error"]
    assert "Read-only file system" in done.said["error"]
    assert done.warnings == []


def test_a_disk_that_turns_read_only(tmp_path: Path) -> None:
    """What is open goes on; what would need a new file is counted; the run stays readable."""
    done = on_small_disk(
        tmp_path,
        """
run = wandbkeras.init(dir=disk, id="late")
log(run, 100)
# The kernel refuses to turn a mount that is written to; a second one over it is as good.
subprocess.run(["mount", "--bind", disk, disk], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
log(run, 100)
(kept / "weights").write_bytes(b"weights")
run.log_artifact(kept / "weights", name="weights")
log(run, 100)
run.finish()
listed = subprocess.run([Path(sys.executable).with_name("wandbkeras"), "ls", disk])
say(listed=listed.returncode)
""",
        size="8m",
    )
    assert done.code == 0, done.stderr
    first, last = done.warnings
    assert "Read-only file system" in first
    assert "the run stays unsealed, its records are in the journal" in last
    assert done.said["listed"] == 0
    run = done.run("late")
    assert (run.state, run.row_count, run.damage) == ("finished", 300, [])
    assert (run.folded.dropped, run.folded.dropped_events) == (0, 1)


def test_a_mount_that_vanishes(tmp_path: Path) -> None:
    """The rows go to the disk that is still open, and nothing is made where it was."""
    done = on_small_disk(
        tmp_path,
        """
mount = kept.parent / "gone"
mount.mkdir()
subprocess.run(["mount", "--bind", disk, mount], check=True)
run = wandbkeras.init(dir=mount / "runs", id="gone")
log(run, 100)
subprocess.run(["umount", "-l", mount], check=True)
log(run, 100)
(kept / "weights").write_bytes(b"weights")
run.log_artifact(kept / "weights", name="weights")
run.finish()
say(made=os.listdir(mount))
""",
        size="8m",
    )
    assert done.code == 0, done.stderr
    first, last = done.warnings
    assert "the run directory is gone" in first
    assert "the run stays unsealed, its records are in the journal" in last
    assert done.said["made"] == []
    run = done.run_at("runs", "gone")
    assert (run.state, run.row_count, run.damage) == ("finished", 200, [])
    assert (run.folded.dropped, run.folded.dropped_events) == (0, 1)


def test_a_full_disk_can_raise(tmp_path: Path) -> None:
    """With ``on_full="raise"`` a row that is refused can be logged again, else it is counted."""
    done = on_small_disk(
        tmp_path,
        """
run = wandbkeras.init(dir=disk, id="raise", on_full="raise")
fill(leave=4096)
refused = 0
for _ in range(400):
    try:
        log(run, 1)
    except DiskFullError as error:
        refused += 1
        say(error=str(error), step=run.step)
for change in (
    lambda: run.config.update(late=1),
    lambda: run.summary.update(late=1),
    lambda: run.define_metric("late", summary="max"),
    lambda: run.log_artifact(Path(wandbkeras.__file__)),
    lambda: run.log({"long": "x" * 200}, step=run.step),
):
    try:
        change()
    except DiskFullError:
        refused += 1
say(config=dict(run.config), refused=refused)
empty()
log(run, 10)
fill()
run.finish()
say(rows=run.step)
""",
    )
    assert done.code == 0, done.stderr
    assert done.warnings == []
    assert "the disk takes no more: [Errno 28] No space left on device" in done.said["error"]
    assert done.said["refused"] > 100
    assert done.said["config"] == {}
    run = done.run("raise")
    assert [row.step for row in run.rows()] == list(range(done.said["rows"]))
    assert done.said["rows"] == done.said["step"] + 10
    # The piece of the last row that was refused and never came again, not the rows that did.
    assert (run.folded.dropped, run.folded.dropped_events) == (1, 0)
    assert run.state == "finished"


def test_a_run_with_a_cap(tmp_path: Path) -> None:
    """A run takes at most ``max_bytes``, is sealed and finished, and counts what did not fit."""
    done = on_small_disk(
        tmp_path,
        """
(kept / "weights").write_bytes(os.urandom(250_000))
os.environ["WANDBKERAS_MAX_BYTES"] = "256 KiB"
for attempt in range(3):
    run = wandbkeras.init(dir=disk, id="cap", resume="allow", config={"attempt": attempt})
    run.log_artifact(kept / "weights", name="weights")
    log(run, 20_000 if attempt < 2 else 1)
    run.log({"a": 1}, step=run.step)
    run.log({"b": 1}, step=run.step)
    run.finish()
    say(**{str(attempt): run.step})
""",
        size="8m",
    )
    assert done.code == 0, done.stderr
    kinds = [("artifact" if "artifact 'weights'" in line else "rows") for line in done.warnings]
    # The last one logs next to nothing, which sealing the others made room for.
    assert kinds == ["artifact", "rows", "artifact", "rows", "artifact"]
    assert all("max_bytes=262144" in line for line in done.warnings)
    run = done.run("cap")
    assert (run.state, run.damage, run.artifacts) == ("finished", [], [])
    assert run.config == {"attempt": 2}
    assert run.row_count + run.folded.dropped == 20_000 + 20_000 + 1 + 3
    assert run.folded.dropped_events == 3
    assert 50_000 < run.size <= 262_144
    assert list(run.path.rglob("*.wbk")) == list(run.path.rglob("*.tmp")) == []


_KERAS = """
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
import keras
from tests.keras_models import Scripted, fit, model
from wandbkeras import WandbCallback

class At(keras.callbacks.Callback):
    def __init__(self, **actions):
        super().__init__()
        self.actions = actions
    def on_epoch_begin(self, epoch, logs=None):
        if f"epoch_{epoch}" in self.actions:
            self.actions[f"epoch_{epoch}"]()

def fill_up(leave=0):
    # To the last byte: there may be room in the last block of the journal.
    fill(leave)
    for _ in range(300):
        try:
            wandbkeras.log({"filling": 0.5})
        except DiskFullError:
            break

def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)

def train(name, epochs=12, on_full="drop", options={}, store=None, **actions):
    empty()
    print("==", name, file=sys.stderr, flush=True)
    run = wandbkeras.init(dir=store or disk / name, id=name, on_full=on_full)
    better = Scripted(val_loss=[1 / (epoch + 1) for epoch in range(epochs)])
    try:
        fit(model(), At(**actions), better, WandbCallback(**options), epochs=epochs)
        say(**{name: "trained"})
    except DiskFullError as error:
        say(**{name: str(error)})
    run.finish()
    say(**{f"rows of {name}": run.step})

weights = {"save_weights_only": True}
train("back", epoch_4=fill_up, epoch_8=empty)
train("saving", epoch_4=lambda: fill(leave=16384), epoch_8=empty)
train("weights", options=weights, epoch_4=lambda: fill(leave=8192), epoch_8=empty)
train("full", epoch_4=fill_up)
train("stop", on_full="raise", epoch_4=fill_up)

def turn_read_only():
    # The kernel refuses to turn a mount that is written to; a second one over it is as good.
    mount("--bind", disk / "read-only", disk / "read-only")
    mount("-o", "remount,bind,ro", disk / "read-only")

train("read-only", epoch_4=turn_read_only)
place = kept.parent / "gone"
place.mkdir()
mount("--bind", disk, place)
unmount = ["umount", "-l", place]
train("gone", store=place / "gone", epoch_4=lambda: subprocess.run(unmount, check=True))
say(made=os.listdir(place))

empty()
fill()
print("== none", file=sys.stderr, flush=True)
os.environ["WANDB_DIR"] = str(disk / "none")
fit(model(), WandbCallback(monitor="loss", log_batch_frequency=1), epochs=3)
say(none=sorted(os.listdir(disk / "none")) if (disk / "none").exists() else [])
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Trainings with WandbCallback, each on a disk that gets full before epoch 4."""
    return on_small_disk(tmp_path_factory.mktemp("keras"), _KERAS, size="8m")


def _warnings(done: Outcome, name: str) -> list[str]:
    text = done.stderr.partition(f"== {name}\n")[2].partition("== ")[0]
    return Outcome(done.code, text, {}, done.left).warnings


@pytest.mark.parametrize("name", ["back", "saving", "full", "weights"])
def test_a_training_ends_normally_on_a_full_disk(trained: Outcome, name: str) -> None:
    """``fit`` with checkpoints runs to its end, says it once, and the counts are exact."""
    assert trained.code == 0, trained.stderr
    assert trained.said[name] == "trained"
    (line,) = _warnings(trained, name)
    assert "training goes on" in line
    assert "No space left on device" in line
    run = trained.run_at(name, name)
    epochs = [row.values["epoch"] for row in run.rows() if "epoch" in row.values]
    saved = [artifact.metadata["epoch"] for artifact in run.artifacts]
    assert (run.state, run.exit_code, run.damage) == ("finished", 0, [])
    assert run.folded.dropped == trained.said[f"rows of {name}"] - run.row_count
    if name in ("back", "full"):
        assert run.folded.dropped > 100
    assert run.folded.dropped_events == 12 - len(saved) > 0
    assert saved[:4] == epochs[:4] == [0, 1, 2, 3]
    assert run.summary["best_epoch"] == 11
    if name != "full":
        assert saved[-4:] == epochs[-4:] == [8, 9, 10, 11]
    assert not list(run.path.glob(".saving-*"))


@pytest.mark.parametrize(
    ("name", "why"),
    [("read-only", "Read-only file system"), ("gone", "No such file or directory")],
)
def test_a_training_ends_normally_on_a_disk_that_is_no_more(
    trained: Outcome, name: str, why: str
) -> None:
    """Read-only or unmounted from epoch 4 on: the rows are there, later models are counted."""
    assert trained.said[name] == "trained"
    first, last = _warnings(trained, name)
    assert "training goes on" in first
    assert why in first
    assert "the run stays unsealed, its records are in the journal" in last
    run = trained.run_at(name, name)
    assert (run.state, run.exit_code, run.damage) == ("finished", 0, [])
    assert run.row_count == trained.said[f"rows of {name}"]
    assert run.folded.dropped == 0
    saved = [artifact.metadata["epoch"] for artifact in run.artifacts]
    assert (saved, run.folded.dropped_events) == ([0, 1, 2, 3], 8)
    assert run.summary["best_epoch"] == 11
    assert trained.said["made"] == []


def test_a_training_can_be_stopped_by_a_full_disk(trained: Outcome) -> None:
    """With ``on_full="raise"`` ``fit`` ends with the error, and what was recorded is sound."""
    assert "the disk takes no more: [Errno 28]" in trained.said["stop"]
    assert _warnings(trained, "stop") == []
    run = trained.run_at("stop", "stop")
    epochs = [row.values["epoch"] for row in run.rows() if "epoch" in row.values]
    assert epochs == [artifact.metadata["epoch"] for artifact in run.artifacts] == [0, 1, 2, 3]
    assert (run.state, run.damage, run.folded.dropped) == ("finished", [], 1)


def test_a_training_without_a_run(trained: Outcome) -> None:
    """A callback that can't begin a run of its own says so once, and training goes on."""
    (line,) = _warnings(trained, "none")
    assert "training goes on without what it records" in line
    assert "no run can be written there" in line
    assert trained.said["none"] == []
