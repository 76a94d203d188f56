"""What a program and its children print reaches the user unchanged, and the run."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import termios
from pathlib import Path

import psutil
import pytest

import wandbkeras
from tests.consoles import begin_on_a_terminal, lines, play, seen_on
from tests.syncing import until

PRINTING = """
print("größe", sys.stdout.isatty(), sys.stderr.isatty(), flush=True)
for percent in (10, 50, 100):
    sys.stdout.write(f"\\r\\x1b[32m{percent:4}%\\x1b[0m"); sys.stdout.flush()
print(flush=True)
os.write(1, b"native\\n")
subprocess.run(["echo", "child"])
print("the key is", os.environ["MY_API_KEY"], flush=True)
os.write(1, b"in two pieces: sesa")
os.write(1, b"me-open\\n")
ctypes.CDLL(None).puts(b"from C")
os.write(1, b"no \\xff text\\n")
print("last", end="")
print("an error", file=sys.stderr)
run.finish()
print("after the end")
"""
RECORDED = [
    "größe False False",
    "\x1b[32m 100%\x1b[0m",
    "native",
    "child",
    "the key is ***",
    "in two pieces: ***",
    "from C",
    "no \N{REPLACEMENT CHARACTER} text",
    "last",
]
KEY = {"MY_API_KEY": "sesame-open"}


def test_all_that_a_program_prints_is_passed_on_and_recorded(tmp_path: Path) -> None:
    """With or without -u and nohup: the same bytes as with the console off, and the lines."""
    ways = {
        "off": play(tmp_path / "off", PRINTING, WANDBKERAS_CONSOLE="off", **KEY),
        "auto": play(tmp_path / "auto", PRINTING, **KEY),
        "-u": play(tmp_path / "-u", PRINTING, flags=["-u"], **KEY),
        "nohup": play(tmp_path / "nohup", PRINTING, before=["nohup"], **KEY),
    }
    ends = {name: program.end() for name, program in ways.items()}
    code, out, err = ends.pop("off")
    assert (code, err) == (0, b"an error\n")
    assert sorted(out.splitlines()) == sorted(ends["auto"][1].splitlines())
    for name, (code, seen, said) in ends.items():
        assert (code, said) == (0, err)
        assert b"\r\x1b[32m  10%\x1b[0m\r\x1b[32m  50%" in seen
        assert seen.endswith(b"lastafter the end\n")
        assert lines(ways[name].run, "stdout") == RECORDED
        assert lines(ways[name].run, "stderr") == ["an error"]
    assert not lines(ways["off"].run)


def test_a_terminal_stays_a_terminal(tmp_path: Path) -> None:
    """The program sees a terminal of the same size, also after it was resized, and so does its
    user: all comes as it came without us."""
    code = """
    resized = []
    signal.signal(signal.SIGWINCH, lambda *_: resized.append(1))
    print(sys.stdout.isatty(), sys.stderr.isatty(), os.get_terminal_size(), flush=True)
    while not resized or os.get_terminal_size().columns != 99:
        time.sleep(0.01)
    print("\\x1b[1mbold\\x1b[0m", os.get_terminal_size().columns)
    print("an error", file=sys.stderr)
    """
    seen = {}
    for console in ("off", "auto"):
        directory = tmp_path / console
        pid, controller = begin_on_a_terminal(directory, code, WANDBKERAS_CONSOLE=console)
        fcntl.ioctl(controller, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 77, 0, 0))
        first = b""
        while b"\n" not in first:
            first += os.read(controller, 4096)
        fcntl.ioctl(controller, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 99, 0, 0))
        seen[console] = first + seen_on(controller)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert seen["auto"] == seen["off"]
    assert b"True True os.terminal_size(columns=77, lines=30)\r\n" in seen["auto"]
    (run,) = wandbkeras.Store(tmp_path / "auto" / "store").runs()
    assert lines(run) == [
        "True True os.terminal_size(columns=77, lines=30)",
        "\x1b[1mbold\x1b[0m 99",
        "an error",
    ]


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)", "os.abort()"]
)
def test_the_last_words_of_a_program_are_seen_and_recorded(tmp_path: Path, end: str) -> None:
    """Whatever was printed before a program was killed, left or crashed."""
    program = play(
        tmp_path / "killed",
        f"""
        import faulthandler
        faulthandler.enable()
        print("x" * 50_000)
        os.write(2, b"the last words")
        sys.stdout.flush()
        {end}
        """,
    )
    code, out, err = program.end()
    assert code != 0
    assert (out, err[:14]) == (b"x" * 50_000 + b"\n", b"the last words")
    until(lambda: len(lines(program.run)) >= 2)
    until(lambda: not _relays(tmp_path))
    words = "\n".join(lines(program.run, "stderr"))
    assert words == err.decode().rstrip("\n")
    assert ("Fatal Python error: Aborted" in words) == ("abort" in end)
    assert "(17232 characters more)" in lines(program.run, "stdout")[0]


@pytest.mark.parametrize("trouble", [signal.SIGKILL, signal.SIGSTOP])
def test_a_program_goes_on_without_the_relay(tmp_path: Path, trouble: signal.Signals) -> None:
    """All that it prints is seen, more than any pipe holds; that it isn't recorded is said."""
    _fifo(tmp_path / "program" / "go")
    program = play(
        tmp_path / "program",
        """
        from wandbkeras.context import console
        print("before", flush=True)
        open("go").read()
        console.HEARTBEAT_S = 0.2
        child = subprocess.Popen(["sh", "-c", "echo child"])
        for _ in range(50):
            os.write(1, b"y" * 99_999 + b"\\n")
        child.wait()
        run.finish()
        """,
    )
    until(lambda: bool(list(tmp_path.glob("program/store/*/run.json"))))
    until(lambda: "before" in lines(program.run))
    (relay,) = _relays(tmp_path)
    relay.send_signal(trouble)
    (tmp_path / "program" / "go").write_text("")
    code, out, err = program.end()
    assert code == 0
    assert len(out) == len(b"before\nchild\n") + 50 * 100_000
    assert b"the console is not recorded: the process that records it has ended" in err
    assert lines(program.run)[0] == "before"
    assert program.run.folded.failures == 1


def test_a_forked_child_prints_into_the_record_of_its_parent(tmp_path: Path) -> None:
    """And a child that outlives its parent still reaches the user."""
    _fifo(tmp_path / "program" / "go")
    program = play(
        tmp_path / "program",
        """
        print("parent")
        sys.stdout.flush()
        if not os.fork():
            print("child", flush=True)
            sys.stdin = os.fdopen(os.open("go", os.O_RDONLY))
            sys.stdin.read()
            print("orphan", flush=True)
            os._exit(0)
        os.system("echo by a shell")
        time.sleep(0.2)
        run.finish()
        print("end", flush=True)
        os.close(os.open("go", os.O_WRONLY))
        """,
    )
    code, out, err = program.end()
    assert (code, err) == (0, b"")
    assert sorted(out.split()) == sorted(b"parent child by a shell end orphan".split())
    assert sorted(lines(program.run)) == ["by a shell", "child", "parent"]


def test_a_flood_costs_a_bounded_file(tmp_path: Path) -> None:
    """The beginning and the end are kept, and the numbers say how many lines are not."""
    program = play(
        tmp_path / "program",
        """
        for number in range(60_000):
            print("line", number, "of a program that prints and prints and prints")
        """,
        WANDBKERAS_CONSOLE_MAX_BYTES="1MB",
    )
    code, out, _ = program.end()
    assert (code, out.count(b"\n")) == (0, 60_000)
    table = program.run.console()
    numbers = table["line"].to_pylist()
    texts = table["text"].to_pylist()
    assert all(text.startswith(f"line {n} ") for n, text in zip(numbers, texts, strict=True))
    assert numbers[:5_000] == list(range(5_000))
    assert numbers[-3_000:] == list(range(57_000, 60_000))
    assert sum(map(len, texts)) < 1_000_000


def test_the_reader_of_a_pipe_that_has_seen_enough_ends_the_program(tmp_path: Path) -> None:
    """As it does without us: `python train.py | head -1`."""
    code = """
    for number in range(10_000_000):
        print("line", number)
    """
    program = play(tmp_path / "program", code)
    assert program.process.stdout is not None and program.process.stderr is not None
    assert program.process.stdout.readline() == b"line 0\n"
    program.process.stdout.close()
    assert b"BrokenPipeError" in program.process.stderr.read()
    assert program.process.wait() == 1
    assert lines(program.run)[0] == "line 0"


def test_runs_of_one_process_each_record_their_own(tmp_path: Path) -> None:
    """Between them and afterwards all is as it was: the same descriptors are open."""
    program = play(
        tmp_path / "program",
        """
        print("first")
        run.finish()
        before = os.listdir("/proc/self/fd")
        print("between")
        second = wandbkeras.init(dir="store", id="second")
        print("second")
        second.finish()
        assert os.listdir("/proc/self/fd") == before
        """,
    )
    assert program.end() == (0, b"first\nbetween\nsecond\n", b"")
    runs = wandbkeras.Store(tmp_path / "program" / "store").runs()
    assert sorted(lines(run) for run in runs) == [["first"], ["second"]]


@pytest.mark.parametrize("capture", ["capsys", "capfd"])
def test_under_pytest_what_it_captures_is_recorded_too(
    capture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Python's streams are not those of the process there, so their `write` is wrapped."""
    captured = request.getfixturevalue(capture)
    run = wandbkeras.init(dir=tmp_path, console="auto")
    print("seen by pytest")
    sys.stderr.write("and this\n")
    run.finish()
    print("after the end")
    assert captured.readouterr() == ("seen by pytest\nafter the end\n", "and this\n")
    assert run.dir is not None
    stored = wandbkeras.StoredRun(run.dir)
    assert lines(stored, "stdout") == ["seen by pytest"]
    assert lines(stored, "stderr") == ["and this"]


def test_in_a_notebook_every_cell_is_recorded(tmp_path: Path) -> None:
    """IPython puts back a stream's `write` when a cell ends, the one that began the run too.

    Here its place is taken by what it does to a stream, as read in IPython 9; with ipykernel 7 this
    was seen to hold.
    """
    code = """
    import types
    registered = []
    events = types.SimpleNamespace(
        register=lambda name, call: registered.append(call),
        unregister=lambda name, call: registered.remove(call),
    )
    shell = types.SimpleNamespace(events=events)
    sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
    run.finish()

    def cell(text):
        before = sys.stdout.write
        sys.stdout.write = lambda data: before(data)
        for call in list(registered):
            call(None)
        exec(text, globals())
        sys.stdout.write = before

    cell("run = wandbkeras.init(dir='store', id='notebook', console='wrap'); print('first')")
    cell("print('second')")
    cell("run.finish(); print('after the end')")
    assert registered == []
    """
    program = play(tmp_path / "program", code)
    assert program.end() == (0, b"first\nsecond\nafter the end\n", b"")
    run = wandbkeras.Store(tmp_path / "program" / "store").run("notebook")
    assert lines(run) == ["first", "second"]


def test_a_run_that_may_take_little_has_no_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under `max_bytes` it is counted beforehand, a quarter of what is left; too little is said."""
    run = wandbkeras.init(dir=tmp_path, console="auto", max_bytes="1MB")
    run.finish()
    assert "the console is not recorded: max_bytes leaves less than" in capsys.readouterr().err
    run = wandbkeras.init(dir=tmp_path, console="auto", max_bytes="50MB")
    print("recorded")
    run.finish()
    assert run.dir is not None
    assert lines(wandbkeras.StoredRun(run.dir)) == ["recorded"]


def test_wrapping_leaves_the_descriptors_alone(tmp_path: Path) -> None:
    """With `wrap`, what native code prints is only seen."""
    code = """
    print("python", flush=True)
    os.write(1, b"native\\n")
    run.finish()
    assert "write" not in vars(sys.stdout)
    """
    program = play(tmp_path / "program", code, WANDBKERAS_CONSOLE="wrap")
    assert program.end() == (0, b"python\nnative\n", b"")
    assert lines(program.run) == ["python"]


def test_a_program_that_is_no_interpreter_is_not_started_again(tmp_path: Path) -> None:
    """As one that was frozen: it prints as ever, and it is said that this is not recorded."""
    code = """
    run.finish()
    sys.frozen = True
    run = wandbkeras.init(dir="store", id="frozen")
    print("seen", flush=True)
    """
    program = play(tmp_path / "program", code)
    code_of_end, out, err = program.end()
    assert (code_of_end, out) == (0, b"seen\n")
    assert b"the console is not recorded" in err and b"no Python interpreter" in err
    assert wandbkeras.Store(tmp_path / "program" / "store").run("frozen").folded.failures == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_program_may_run_without_standard_streams(tmp_path: Path, closed: str) -> None:
    """Nothing that it or a child prints gets into the run's own files; what is open is captured."""
    code = """
    print("printed") if sys.stdout else None
    sys.stderr.write("an error\\n") if sys.stderr else None
    os.system("echo by a shell 2>/dev/null; echo an error >&2 2>/dev/null")
    run.log({"a": 1})
    run.finish()
    """
    before = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    program = play(tmp_path / "program", code, before=before)
    code_of_end, out, err = program.end()
    printed = [] if " >" in f" {closed}" else ["printed", "by a shell"]
    errors = [] if "2>" in closed else ["an error", "an error"]
    assert (code_of_end, out.decode().split("\n")[:-1]) == (0, printed)
    assert err.decode().split("\n")[:-1] == errors
    assert lines(program.run, "stdout") == printed
    assert lines(program.run, "stderr") == errors
    assert [row.values for row in program.run.rows()] == [{"a": 1}]
    assert (program.run.damage, program.run.folded.failures) == ([], 0)


def test_a_disabled_run_captures_nothing(tmp_path: Path) -> None:
    """No process is started for it."""
    code = "print(os.readlink('/proc/self/fd/1'))"
    program = play(tmp_path / "program", code, WANDBKERAS_MODE="disabled")
    _, out, _ = program.end()
    assert program.process.stdout is not None
    assert out.startswith(b"pipe:") and not (tmp_path / "program" / "store").exists()
    assert not _relays(tmp_path)


def test_a_progress_bar_of_keras_is_one_line(tmp_path: Path) -> None:
    """Its last state, as a terminal shows it."""
    code = """
    import keras
    bar = keras.utils.Progbar(5)
    for step in range(5):
        bar.update(step + 1, [("loss", 0.5)])
    """
    pid, controller = begin_on_a_terminal(tmp_path / "program", code, KERAS_BACKEND="numpy")
    assert b"\r" in seen_on(controller)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    (run,) = wandbkeras.Store(tmp_path / "program" / "store").runs()
    (line,) = [line for line in lines(run, "stdout") if "loss" in line]
    assert "5/5" in line and "4/5" not in line and "loss: 0.5000" in line


def _fifo(path: Path) -> None:
    """Make what a program waits at until its other end is opened."""
    path.parent.mkdir()
    os.mkfifo(path)


def _relays(directory: Path) -> list[psutil.Process]:
    """The relays of the runs below a directory."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if any("wandbkeras.context.relay" in a for a in arguments) and any(
            str(directory) in a for a in arguments
        ):
            found.append(process)
    return found
