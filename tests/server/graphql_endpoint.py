"""GraphQL over HTTP: a document is checked against schema.graphql and executed, or refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    execute_sync,
    parse,
    validate,
)
from starlette.responses import Response

from tests.server.context import Context
from tests.server.mutations import Mutations
from tests.server.queries import Queries
from tests.server.refusal import RefusalError, violation

# Arguments whose GraphQL name Python has taken.
RENAMED = {"id": "node_id", "input": "fields"}
CAPITALS = re.compile(r"(?<=[a-z0-9])([A-Z])|(?<=[A-Z])([A-Z])(?=[a-z])")


@cache
def schema() -> GraphQLSchema:
    return build_schema(Path(__file__).with_name("schema.graphql").read_text())


@lru_cache(maxsize=256)
def checked(document: str) -> DocumentNode:
    """The parsed document; refused when the schema does not know what it asks for."""
    try:
        parsed = parse(document)
        errors = validate(schema(), parsed)
    except GraphQLError as exc:
        errors = [exc]
    if errors:
        raise violation("graphql", "; ".join(error.message for error in errors))
    operations = [d for d in parsed.definitions if isinstance(d, OperationDefinitionNode)]
    if len(operations) != 1 or operations[0].name is None:
        raise violation("graphql", "a document holds one named operation")
    return parsed


@dataclass(frozen=True)
class GraphQLRequest:
    """One well-formed request."""

    document: DocumentNode
    operation: str
    variables: dict[str, Any]
    is_query: bool

    @classmethod
    def parse(cls, body: bytes) -> GraphQLRequest:
        try:
            request = json.loads(body)
        except ValueError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("query"), str):
            raise violation("graphql", "the body is no GraphQL request")
        if unknown := set(request) - {"query", "variables", "operationName"}:
            raise violation("graphql", f"unknown request keys {sorted(unknown)}")
        document = checked(request["query"])
        operation = next(d for d in document.definitions if isinstance(d, OperationDefinitionNode))
        assert operation.name is not None
        name = operation.name.value
        if request.get("operationName") not in (None, "", name):
            raise violation("graphql", f"operationName is not {name}")
        return cls(
            document, name, request.get("variables") or {}, operation.operation.value == "query"
        )

    def execute(self, context: Context) -> Response:
        result = execute_sync(
            schema(),
            self.document,
            root_value=(Queries if self.is_query else Mutations)(context),
            context_value=context,
            variable_values=self.variables,
            field_resolver=resolve,
            type_resolver=lambda value, info, abstract: type(value).__name__.removesuffix("Node"),
        )
        for error in result.errors or []:
            if isinstance(error.original_error, RefusalError):
                raise error.original_error
            # An error without a path is about the variables, before anything was resolved.
            if error.original_error is not None and error.path is not None:
                raise error.original_error  # a bug of ours: 500, and a traceback in the log
            raise violation("graphql", error.message)
        return Response(
            json.dumps({"data": result.data}, allow_nan=False), media_type="application/json"
        )


@cache
def snake(name: str) -> str:
    """`artifactID` is the attribute `artifact_id`."""
    return CAPITALS.sub(r"_\g<0>", name).lower()


def resolve(source: Any, info: GraphQLResolveInfo[Context], **arguments: Any) -> Any:
    """A field is the attribute of the same name, called when it takes arguments."""
    value = getattr(source, snake(info.field_name))
    if callable(value):
        return value(**{RENAMED.get(name, snake(name)): arguments[name] for name in arguments})
    return value
