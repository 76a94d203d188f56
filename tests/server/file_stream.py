"""The file stream: lines are appended where the client says, and nowhere else.

Refused and recorded: a gap, a line that changes one already held, a history row that is no JSON
object, has no `_step`, or whose `_step` does not rise.
The same lines again (a retry after a lost acknowledgement) are accepted and not doubled.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse, Response

from tests.server.context import Context
from tests.server.history import EVENTS, HISTORY, OUTPUT, SUMMARY, held, parsed
from tests.server.refusal import violation
from tests.server.runs import RunNode, need_run

KEYS = {"files", "uploaded", "preempting", "complete", "exitcode"}


def accept(context: Context, entity: str, project: str, run_name: str, *, body: bytes) -> Response:
    """One POST of the stream; an empty one is a heartbeat."""
    run = need_run(context, entity, project, run_name)
    message = _parse(body)
    for file, chunk in message.get("files", {}).items():
        offset, lines = _chunk(file, chunk)
        match file:
            case "wandb-history.jsonl":
                _append(context, run, HISTORY, offset, lines)
            case "wandb-events.jsonl":
                _append(context, run, EVENTS, offset, lines)
            case "wandb-summary.json":
                _summarise(context, run, lines)
            case "output.log":
                _rewrite(context, run, offset, lines)
            case _:
                raise violation("file_stream", f"unknown stream {file}")
    _live(context, run, message)
    stopped = bool(run.row["stop_requested"])
    return JSONResponse({"exitcode": message.get("exitcode"), "limits": {}, "stopped": stopped})


def _parse(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except ValueError:
        message = None
    if not isinstance(message, dict) or set(message) - KEYS:
        raise violation("file_stream", f"the body is no stream message: {body[:200]!r}")
    return message


def _chunk(file: str, chunk: Any) -> tuple[int, list[str]]:
    match chunk:
        case {"offset": int(offset), "content": list(lines), **rest} if not rest and offset >= 0:
            if all(isinstance(line, str) for line in lines):
                return offset, lines
    raise violation("file_stream", f"{file}: not an offset and lines")


def _append(context: Context, run: RunNode, file: str, offset: int, lines: list[str]) -> None:
    end = held(context, run.pk, file)
    if offset > end:
        raise violation("gap", f"{file}: offset {offset} where {end} lines are held")
    for number, line in enumerate(lines[: end - offset], offset):
        _same(context, run, file, number, line)
    fresh = lines[end - offset :]
    rows = [_row(file, number, line) for number, line in enumerate(fresh, end)]
    steps: list[int | None] = [None] * len(rows)
    if file == HISTORY:
        steps = _rising(context, run, end, rows)
    context.state.db.executemany(
        "insert into lines (run, file, number, text, step, received_at) values (?, ?, ?, ?, ?, ?)",
        [
            (run.pk, file, number, line, step, context.now)
            for number, (line, step) in enumerate(zip(fresh, steps, strict=True), end)
        ],
    )


def _same(context: Context, run: RunNode, file: str, number: int, line: str) -> None:
    before = context.state.one(
        "select text from lines where run = ? and file = ? and number = ?", run.pk, file, number
    )
    assert before is not None
    # wandb writes the keys of a line in another order each time it makes the line anew.
    if before["text"] != line and _canonical(before["text"]) != _canonical(line):
        raise violation(
            "rewritten",
            f"{file}: line {number} was {before['text'][:200]}, now {line[:200]}",
        )


def _canonical(line: str) -> str:
    try:
        return json.dumps(json.loads(line), sort_keys=True)
    except ValueError:
        return line


def _row(file: str, number: int, line: str) -> dict[str, Any]:
    try:
        row = parsed(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise violation("line", f"{file}: line {number} is no JSON object: {line[:200]}")
    return row


def _rising(
    context: Context, run: RunNode, first: int, rows: list[dict[str, Any]]
) -> list[int | None]:
    last = context.state.one(
        "select step from lines where run = ? and file = ? order by number desc limit 1",
        run.pk,
        HISTORY,
    )
    before: int = last["step"] if last else -1
    steps: list[int | None] = []
    for number, row in enumerate(rows, first):
        step = row.get("_step")
        if not isinstance(step, int) or isinstance(step, bool):
            raise violation("step", f"history line {number} has _step {step!r}")
        if step <= before and not context.repeats:
            raise violation("step", f"history line {number} has _step {step} after {before}")
        steps.append(step)
        before = step
    return steps


def _summarise(context: Context, run: RunNode, lines: list[str]) -> None:
    if len(lines) != 1:
        raise violation("file_stream", f"the summary is one line, received {len(lines)}")
    _row(SUMMARY, 0, lines[0])
    context.state.update("runs", run.pk, summary=lines[0])


def _rewrite(context: Context, run: RunNode, offset: int, lines: list[str]) -> None:
    """Console lines change under a progress bar, and a terminal may skip some."""
    context.state.db.executemany(
        "insert or replace into lines (run, file, number, text, received_at)"
        " values (?, ?, ?, ?, ?)",
        [(run.pk, OUTPUT, offset + i, line, context.now) for i, line in enumerate(lines)],
    )


def _live(context: Context, run: RunNode, message: dict[str, Any]) -> None:
    """A message shows that the run is alive, unless it says how it ended."""
    changes: dict[str, object] = {"heartbeat_at": context.now, "state": "running"}
    changes["exit_code"] = None
    # It is told once, and holds until the run is begun anew.
    preempting = bool(message.get("preempting") or run.row["preempting"])
    changes["preempting"] = int(preempting)
    if message.get("complete"):
        code = message.get("exitcode")
        if not isinstance(code, int):
            raise violation("file_stream", f"complete with exitcode {code!r}")
        otherwise = "preempted" if preempting else "failed"
        changes |= {"state": "finished" if code == 0 else otherwise, "exit_code": code}
    context.state.update("runs", run.pk, **changes)
