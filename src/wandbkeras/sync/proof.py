"""What a receipt says of a run that was read back."""

from __future__ import annotations

import time

import wandbkeras
from wandbkeras.sync.compare import match_artifacts
from wandbkeras.sync.content import Content
from wandbkeras.sync.digests import digest_of
from wandbkeras.sync.plan import Plan
from wandbkeras.sync.readback import VERSION
from wandbkeras.sync.receipt import Level, Receipt
from wandbkeras.sync.remote import RemoteRun

# What is recorded or shown elsewhere and not read back; said in every receipt.
NOT_COMPARED = ["createdAt", "client telemetry", "alerts"]
_CONSOLE = "console"
_SYSTEM_METRICS = "system metrics"


def receipt_of(
    content: Content,
    plan: Plan,
    remote: RemoteRun,
    mark: str,
    level: Level,
    rows_compared: int,
) -> Receipt:
    """Return the receipt of a run that the server holds as ``remote`` says, all of ``content``.

    ``mark`` is the run's fingerprint from before anything of it was read.
    """
    destination = plan.destination
    not_settled = bool(content.imported.records) or content.is_running
    return Receipt(
        server=destination.server,
        entity=destination.entity,
        project=destination.project,
        run_id=destination.run_id,
        held_by=plan.entity,
        url=remote.url,
        run_storage_id=remote.id,
        fingerprint=mark,
        state=remote.state,
        rows=len(content.steps),
        level=level,
        rows_compared=rows_compared,
        history_digest=str(content.history_digest),
        summary_digest=digest_of(content.summary),
        config_digest=digest_of(content.config),
        files=len(content.files),
        file_md5s={name: file.md5 for name, file in content.files.items()},
        artifacts=[
            {"name": v.name, "version": v.version, "digest": v.digest, "id": v.id}
            for _, v in match_artifacts(content, remote)
            if v is not None
        ],
        not_sent=content.not_sent,
        replaced=content.choice.replaced,
        alerts=len(content.alerts),
        time=time.time(),
        wandb=VERSION,
        wandbkeras=wandbkeras.__version__,
        not_compared=[
            *NOT_COMPARED,
            *([_CONSOLE] if not_settled or remote.console is None else []),
            # Those of an import are not known, and those of a running run go on meanwhile.
            *([_SYSTEM_METRICS] if not_settled else []),
        ],
    )
