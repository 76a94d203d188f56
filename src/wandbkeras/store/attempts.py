"""The attempts of a run: what each writer left, and what they are together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wandbkeras.store.manifest import Manifest
from wandbkeras.store.metrics import MetricTable
from wandbkeras.store.seal import Segment, read_segments
from wandbkeras.store.source import Source
from wandbkeras.store.state import RunState


@dataclass(frozen=True)
class AttemptView:
    """One attempt as found: what is sealed, what is still in its journal, what they add up to."""

    number: int
    manifest: Manifest
    tail: Segment
    state: RunState


def read_writer(source: Source, number: int, writer: int) -> AttemptView:
    """Read a writer's manifest and journal, again if it sealed in between.

    Whether damage in the journal is an error is for ``source`` to say.
    """
    while True:
        manifest = source.manifest(number, writer)
        state = manifest.state
        has_ended = state.exit_code is not None  # then there is nothing left to be sealed
        tail = read_segments(source.layout, number, writer, manifest.segments, state)
        if has_ended or source.manifest(number, writer).segments == manifest.segments:
            source.accept(tail.damage)
            return AttemptView(number, manifest, tail, state)


def added_up(views: Sequence[AttemptView]) -> RunState:
    """Return what attempts add up to: config, summary, definitions, artifacts, counts."""
    total = RunState()
    for view in views:
        state = view.state
        if state.resumed:  # went on with all that the attempt before it had
            total.config, total.summary = {}, {}
            total.metrics = MetricTable()
        total.config.update(state.config)
        total.summary.update(state.summary)
        total.metrics.absorb(state.metrics)
        total.artifacts.extend(state.artifacts)
        total.dropped_artifacts.extend(state.dropped_artifacts)
        total.files.update(state.files)
        total.dropped += state.dropped
        total.dropped_events += state.dropped_events
        total.failures += state.failures
        # An attempt that died at once has no time of its own.
        total.runtime = max(total.runtime, state.runtime)
        total.last_seen = state.last_seen
        total.process = state.process
    with_rows = [view for view in views if view.state.last_step is not None]
    if with_rows:
        last = [view.state for view in with_rows if view.number == with_rows[-1].number]
        furthest = max(last, key=lambda state: state.last_step or 0)
        total.last_step = furthest.last_step
        total.last_row_timestamp = furthest.last_row_timestamp
    dropped = set(total.dropped_artifacts)
    total.artifacts = [name for name in total.artifacts if name not in dropped]
    return total


def spans(
    views: Sequence[AttemptView],
) -> list[tuple[AttemptView, int | None]]:
    """Pair each writer's view with the step at which a later attempt takes over, if any."""
    with_rows = {view.number for view in views if view.state.rows}
    starts = {
        view.number: view.state.from_step
        for view in views
        if view.number in with_rows - {0} and view.state.from_step is not None
    }
    later = ([start for number, start in starts.items() if number > view.number] for view in views)
    return [(view, min(after, default=None)) for view, after in zip(views, later, strict=True)]
