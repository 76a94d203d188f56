"""The roots of every GraphQL mutation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.server import artifact_uploads, artifact_writing, run_files, runs
from tests.server.context import Context
from tests.server.paging import connect
from tests.server.projects import find_project, make_project
from tests.server.refusal import RefusalError, violation
from tests.server.state import parse_id

Input = dict[str, Any]


class Mutations:
    def __init__(self, context: Context) -> None:
        self._context = context

    # --- projects and runs ----------------------------------------------------------------

    def upsert_model(self, fields: Input) -> SimpleNamespace:
        before = find_project(self._context, fields.get("entityName"), fields.get("name"))
        project = make_project(self._context, fields.get("entityName"), fields.get("name"))
        kept = {
            name: fields[name]
            for name in ("description", "access", "views")
            if fields.get(name) is not None
        }
        self._context.state.update("projects", project.pk, **kept)
        project = make_project(self._context, fields.get("entityName"), fields.get("name"))
        return SimpleNamespace(project=project, model=project, inserted=before is None)

    def upsert_bucket(self, fields: Input) -> SimpleNamespace:
        run, inserted = runs.upsert(self._context, fields)
        return SimpleNamespace(bucket=run, inserted=inserted)

    def delete_run(self, fields: Input) -> SimpleNamespace:
        run = runs.run_by_id(self._context, fields["id"])
        self._context.state.update("runs", run.pk, deleted=1)
        if fields.get("deleteArtifacts"):
            self._context.state.db.execute(
                "update artifacts set state = 'DELETED' where run = ?", (run.pk,)
            )
        return SimpleNamespace(client_mutation_id=fields.get("clientMutationId"))

    def stop_run(self, fields: Input) -> SimpleNamespace:
        run = runs.run_by_id(self._context, fields["id"])
        self._context.state.update("runs", run.pk, stop_requested=1)
        return _success()

    def update_run_state(self, fields: Input) -> SimpleNamespace:
        run = runs.run_by_id(self._context, fields["id"])
        allowed = {
            "pending": {"running", "failed", "crashed", "preempted"},
            "failed": {"pending", "running"},
        }
        if run.state not in allowed.get(fields["state"], set()):
            raise RefusalError(409, f"a run can't go from {run.state} to {fields['state']}")
        self._context.state.update("runs", run.pk, state=fields["state"])
        return _success()

    def notify_scriptable_run_alert(self, fields: Input) -> SimpleNamespace:
        run = runs.need_run(
            self._context, fields["entityName"], fields["projectName"], fields["runName"]
        )
        self._context.state.insert(
            "alerts", run=run.pk, title=fields["title"], text=fields["text"],
            severity=fields["severity"], wait_duration=str(fields.get("waitDuration")),
        )  # fmt: skip
        return _success()

    # --- files ----------------------------------------------------------------------------

    def create_run_files(self, fields: Input) -> SimpleNamespace:
        run = runs.need_run(
            self._context, fields["entityName"], fields["projectName"], fields["runName"]
        )
        files = run_files.create(self._context, run, fields["files"])
        return SimpleNamespace(run_id=run.id, upload_headers=[], files=files)

    def mark_run_files_uploaded(self, fields: Input) -> SimpleNamespace:
        run = runs.need_run(
            self._context, fields["entityName"], fields["projectName"], fields["runName"]
        )
        held = {file.name for file in run_files.files_of(self._context, run.pk)}
        if missing := sorted(set(fields["files"]) - held):
            raise violation("upload", f"said to be uploaded, and are not: {missing}")
        return _success()

    def delete_files(self, fields: Input) -> SimpleNamespace:
        for file in fields["files"]:
            (pk,) = parse_id("File", file)
            self._context.state.db.execute("delete from run_files where pk = ?", (int(pk),))
        return _success()

    # --- artifacts ------------------------------------------------------------------------

    def create_artifact(self, fields: Input) -> SimpleNamespace:
        return SimpleNamespace(artifact=artifact_writing.create(self._context, fields))

    def create_artifact_manifest(self, fields: Input) -> SimpleNamespace:
        manifest = artifact_uploads.create_manifest(self._context, fields)
        return SimpleNamespace(artifact_manifest=manifest)

    def update_artifact_manifest(self, fields: Input) -> SimpleNamespace:
        manifest = artifact_uploads.update_manifest(self._context, fields)
        return SimpleNamespace(artifact_manifest=manifest)

    def create_artifact_files(self, fields: Input) -> SimpleNamespace:
        files = artifact_uploads.create_files(self._context, fields["artifactFiles"])
        return SimpleNamespace(files=connect(files))

    def complete_multipart_upload_artifact(self, fields: Input) -> SimpleNamespace:
        return SimpleNamespace(digest=artifact_uploads.complete_multipart(self._context, fields))

    def commit_artifact(self, fields: Input) -> SimpleNamespace:
        return _artifact(artifact_writing.commit(self._context, fields["artifactID"]))

    def use_artifact(self, fields: Input) -> SimpleNamespace:
        return _artifact(artifact_writing.use(self._context, fields))

    def update_artifact(self, fields: Input) -> SimpleNamespace:
        return _artifact(artifact_writing.update(self._context, fields))

    def delete_artifact(self, fields: Input) -> SimpleNamespace:
        aliases_too = bool(fields.get("deleteAliases"))
        return _artifact(
            artifact_writing.delete(self._context, fields["artifactID"], aliases_too=aliases_too)
        )

    def add_aliases(self, fields: Input) -> SimpleNamespace:
        for sequence, alias, artifact in artifact_writing.aliases_of(
            self._context, fields["artifactID"], fields["aliases"]
        ):
            artifact_writing.set_alias(self._context, sequence, alias, artifact)
        return _success()

    def delete_aliases(self, fields: Input) -> SimpleNamespace:
        for sequence, alias, artifact in artifact_writing.aliases_of(
            self._context, fields["artifactID"], fields["aliases"]
        ):
            self._context.state.db.execute(
                "delete from aliases where collection = ? and alias = ? and artifact = ?",
                (sequence.pk, alias, artifact.pk),
            )
        return _success()


def _success() -> SimpleNamespace:
    return SimpleNamespace(success=True, client_mutation_id=None)


def _artifact(artifact: object) -> SimpleNamespace:
    return SimpleNamespace(artifact=artifact)
