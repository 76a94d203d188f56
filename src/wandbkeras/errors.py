"""The errors a user can meet: one small tree, where a class owns its exit code and its wording.

A message says what was received, what was expected and what to do. The exit codes are the
command line's and are tabled in ``docs/scripting.md``.
"""

from __future__ import annotations

from collections.abc import Iterable


class WandbkerasError(Exception):
    """The root of every error that this package raises on purpose.

    ``retryable``: the same command may succeed later without anything being put right before.
    """

    exit_code = 1
    retryable = False


class UsageError(WandbkerasError):
    """An argument, a name or a setting is wrong."""

    exit_code = 2


class UnsupportedValueError(UsageError, TypeError):
    """A value given to ``log``, ``config`` or ``summary`` can't be recorded."""


class StoreError(WandbkerasError):
    """The store or a run in it can't be used."""

    exit_code = 3


class NotFoundError(StoreError):
    """There is no such directory, or there is no run in it."""


class RunExistsError(StoreError):
    """A run of this id is in the store already and ``resume`` does not allow to go on."""


class DiskFullError(StoreError):
    """The disk takes no more, and ``init(on_full="raise")`` asked to be told."""


class RunningError(StoreError):
    """The run is being recorded, and what was asked for can only be done once it has ended."""


class DamagedError(StoreError):
    """Bytes on disk are not what was written."""

    exit_code = 4


class NewerFormatError(StoreError):
    """The run was written by a newer format version than this package reads."""

    exit_code = 5


class SyncError(WandbkerasError):
    """A run could not be brought to its destination; it is safe to try again."""

    exit_code = 6
    retryable = True


class NotVerifiedError(SyncError):
    """Something was sent, and reading back did not find all of it."""


class UnreachableError(SyncError):
    """The server did not answer."""

    exit_code = 7


class CredentialsError(SyncError):
    """There is no key for the server, or the server does not accept it."""

    exit_code = 8
    retryable = False


class RefusedError(SyncError):
    """The server refuses this destination or this data: trying again changes nothing."""

    exit_code = 9
    retryable = False


class DeletedError(RefusedError):
    """The run was deleted on the server, which never takes its id again."""


class ConflictError(SyncError):
    """The destination holds something else under this run id."""

    exit_code = 10
    retryable = False


class RolledBackError(ConflictError):
    """The destination holds rows of this run that a later attempt has replaced."""


class LockedError(SyncError):
    """Another sync is at work on the run."""

    exit_code = 11


# From harmless to grave: what waits, what can be tried again, what somebody must put right, what is
# lost unless somebody looks.
_GRAVITY = (0, 11, 7, 6, 8, 1, 3, 5, 9, 2, 10, 4)


def gravest(codes: Iterable[int]) -> int:
    """Return the gravest of some exit codes, 0 if there is none; one not tabled is the gravest.

    >>> gravest([0, 10, 4, 11]), gravest([7, 6]), gravest([])
    (4, 6, 0)
    """
    return max(
        codes, key=lambda c: _GRAVITY.index(c) if c in _GRAVITY else len(_GRAVITY), default=0
    )
