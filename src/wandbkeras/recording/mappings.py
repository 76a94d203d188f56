"""``run.config`` and ``run.summary``: dictionaries whose changes are recorded as they are made."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from wandbkeras.errors import UsageError
from wandbkeras.recording.values import plain_config, plain_value

Change = Callable[[dict[str, Any], list[str]], None]


class RecordedMapping(MutableMapping[str, Any]):
    """A mapping whose items are attributes too, as in wandb.

    ``current`` returns what is recorded so far; ``change(update, remove)`` records a change.
    """

    def __init__(self, current: Callable[[], dict[str, Any]], change: Change) -> None:
        object.__setattr__(self, "_current", current)
        object.__setattr__(self, "_change", change)

    def __getitem__(self, key: str) -> Any:
        # A copy: changing it in place would change no record.
        return copy.deepcopy(self._current()[key])

    def __setitem__(self, key: str, value: Any) -> None:
        self._change(self._plain({key: value}), [])

    def __delitem__(self, key: str) -> None:
        if key not in self._current():
            raise KeyError(key)
        self._change({}, [key])

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._current()))

    def __len__(self) -> int:
        return len(self._current())

    def __getattr__(self, key: str) -> Any:
        # Names that begin with "_" are Python's own: copying and printing look for them.
        if key.startswith("_") or key not in self:
            raise AttributeError(f"{type(self).__name__} has no {key!r}")
        return self[key]

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __repr__(self) -> str:
        return repr(dict(self._current()))

    def _plain(self, values: Any) -> dict[str, Any]:
        raise NotImplementedError


class Config(RecordedMapping):
    """The hyperparameters of a run; nested dictionaries stay nested.

    A key that is set already is changed only with ``allow_val_change=True``, as in wandb: a config
    describes the run from its beginning.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def update(  # type: ignore[override]
        self, values: Any = (), *, allow_val_change: bool = False, **more: Any
    ) -> None:
        """Record ``values``, a dict or an argparse.Namespace."""
        plain = {**self._plain(values or {}), **self._plain(more)}
        current = self._current()
        for key, value in plain.items():
            if key in current and not allow_val_change and not _same(current[key], value):
                raise UsageError(
                    f"config {key!r}: is {current[key]!r}, received {value!r}: to change it call "
                    f"run.config.update({{{key!r}: …}}, allow_val_change=True)"
                )
        if plain:
            self._change(plain, [])

    def setdefaults(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Record the items of ``values`` whose keys are not set yet; return the whole config."""
        self.update({key: value for key, value in values.items() if key not in self._current()})
        return self.as_dict()

    def as_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self._current())

    def _plain(self, values: Any) -> dict[str, Any]:
        return plain_config(values)


class Summary(RecordedMapping):
    """One value a metric: the last logged, an aggregate of ``define_metric``, or what is set."""

    def update(self, values: Any = (), **more: Any) -> None:  # type: ignore[override]
        plain = self._plain({**dict(values), **more})
        if plain:
            self._change(plain, [])

    def _plain(self, values: Any) -> dict[str, Any]:
        return {key: plain_value(value, key) for key, value in values.items()}


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or repr(one) == repr(other)  # a NaN equals no number
