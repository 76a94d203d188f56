"""Whether something was written to a run since it was looked at last, for next to nothing."""

from __future__ import annotations

import os

from wandbkeras.store.layout import Layout

Activity = tuple[tuple[str, int, int], ...]


def activity(layout: Layout) -> Activity:
    """Return what changes whenever a process records or seals something: names, sizes and times.

    Only directories are listed: of a run that has ended that costs some ten microseconds. It is
    compared with an earlier one and means nothing else.

    >>> from pathlib import Path
    >>> activity(Layout(Path("nowhere")))
    ()
    """
    found = []
    for directory in (layout.root, layout.attempts, *map(layout.attempt, layout.attempt_numbers())):
        # A directory that is gone, or the run with it: that is another activity, too.
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        found.append((entry.path, status.st_size, status.st_mtime_ns))
        except OSError:
            continue
    return tuple(sorted(found))
