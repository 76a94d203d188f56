"""Work done in a child process, its answer or its traceback brought back."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


def fork(function: Callable[..., None], *arguments: Any) -> int:
    """Run ``function`` in a child and return its process id; the child ends with it."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        function(*arguments)
        status = 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def in_a_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``function`` returns in another process; RuntimeError with its traceback."""
    reading, writing = os.pipe()

    def work() -> None:
        try:
            answer = {"returned": function(*arguments)}
        except BaseException:  # noqa: BLE001
            answer = {"raised": traceback.format_exc()}
        with os.fdopen(writing, "w") as file:
            json.dump(answer, file)

    child = fork(work)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    answer = json.loads(text) if text else {"raised": f"the process ended with status {status}"}
    if "raised" in answer:
        raise RuntimeError(answer["raised"])
    return answer["returned"]
