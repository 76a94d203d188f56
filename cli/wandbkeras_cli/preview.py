"""``wandbkeras sync --dry-run``: what would go where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from wandbkeras.errors import gravest
from wandbkeras.store.wording import counted
from wandbkeras_cli.output import error_document, human_size, print_json, say

if TYPE_CHECKING:
    from wandbkeras.sync.preview import Preview


def show_previews(previews: Iterable[Preview], *, as_json: bool) -> int:
    """Print what a sync would do with each run; return the exit code."""
    described, codes = [], []
    for found in previews:
        codes.append(found.error.exit_code if found.error else 0)
        described.append(_document(found))
        if found.error is not None:
            say(f"wandbkeras: {found.run_id or found.path}: {found.error}", err=True)
        elif not as_json:
            _print(found)
    code = gravest(codes)
    if as_json:
        print_json({"runs": described, "exit_code": code})
    return code


def _print(found: Preview) -> None:
    if found.unchanged:
        say(f"{found.run_id}: nothing to send to {found.destination}")
    else:
        known = [
            f"there already: {counted(count, what)}"
            for count, what in (
                (found.rows_known, "row"),
                (found.artifacts_known, "artifact version"),
            )
            if count
        ]
        sent = (
            f"{found.run_id}: would send {counted(found.rows, 'row')}, "
            f"{counted(found.artifacts, 'artifact version')} "
            f"and {counted(found.files, 'file')} ({human_size(found.bytes)}) to "
            f"{'the new run ' if found.is_new else ''}{found.destination}"
        )
        say("; ".join([sent, *known]))
    for line in found.not_sent:
        say(f"{found.run_id}: not sent: {line}")
    for line in found.adapted:
        say(f"{found.run_id}: beyond W&B's limits: {line}")


def _document(found: Preview) -> dict[str, Any]:
    return {
        "path": str(found.path),
        "run_id": found.run_id,
        "destination": None if found.destination is None else vars(found.destination),
        "unchanged": found.unchanged,
        "is_new": found.is_new,
        "rows": found.rows,
        "rows_known": found.rows_known,
        "artifacts": found.artifacts,
        "artifacts_known": found.artifacts_known,
        "files": found.files,
        "bytes": found.bytes,
        "not_sent": list(found.not_sent),
        "adapted": list(found.adapted),
        "error": error_document(found.error),
    }
