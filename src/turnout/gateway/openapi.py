"""The gateway's own OpenAPI document: its paths, what they take and how they refuse.

What goes to upstreams and what comes back is theirs; the document leaves it open.

Source:
    OpenAPI Specification 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from turnout.manifest import package_version
from turnout.protocols import CONVERSATION_HEADER
from turnout.protocols.conversations import MAX_ID_CHARS

Schema = Mapping[str, Any]
_MODEL: Schema = {"type": ["string", "null"], "description": "`turnout` or `auto` to be routed."}
_MESSAGES: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "role": {"type": "string"},
            "content": {"type": ["string", "array", "null"], "items": {"type": "object"}},
        },
    },
}
_NAMED: Schema = {"type": "string", "description": "The name of a model."}


def _body(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "additionalProperties": True}


_STREAM: Schema = {"type": "boolean"}
_CHAT = _body(model=_MODEL, messages=_MESSAGES, stream=_STREAM)
_ANTHROPIC = _body(
    model=_MODEL,
    messages=_MESSAGES,
    stream=_STREAM,
    max_tokens={"type": "integer"},
    system={"type": ["string", "array"], "items": {"type": "object"}},
)
_INPUT: Schema = {"type": ["string", "array"], "items": {"type": "object"}}
# Path → what it does, and the body of its POST; None is a GET.
_PATHS: Mapping[str, tuple[str, Schema | None]] = {
    "/v1/chat/completions": ("Decide and forward a chat completion of OpenAI.", _CHAT),
    "/v1/responses": (
        "Decide and forward a response of OpenAI.",
        _body(
            model=_MODEL,
            input=_INPUT,
            stream=_STREAM,
            instructions={"type": "string"},
            previous_response_id={"type": ["string", "null"]},
        ),
    ),
    "/v1/messages": ("Decide and forward a message of Anthropic.", _ANTHROPIC),
    "/v1/messages/count_tokens": ("Count tokens where the conversation goes.", _ANTHROPIC),
    "/v1/embeddings": ("Forward by the model's name.", _body(model=_NAMED, input=_INPUT)),
    "/v1/completions": (
        "Forward by the model's name.",
        _body(model=_NAMED, prompt=_INPUT, stream=_STREAM),
    ),
    "/v1/route": ("Decide, without forwarding or remembering.", _CHAT),
    "/v1/models": ("The models that may be asked for.", None),
    "/v1/models/{name}": ("One of the models.", None),
    "/healthz": ("That the gateway runs.", None),
    "/readyz": ("Whether every upstream accepts connections.", None),
    "/api/hello": ("That somebody is there.", None),
    "/openapi.json": ("This document.", None),
    "/v1/systemone": (
        "Answer questions about a message, in the form of System One.",
        _body(model={"type": "string"}, state={}, questions={"type": "object"}),
    ),
    "/v1/decisions": (
        "Answer questions about a message, in OpenAI's form.",
        _body(model={"type": "string"}, input=_INPUT, questions={"type": "array"}),
    ),
}
_CONVERSATION: Schema = {
    "name": CONVERSATION_HEADER,
    "in": "header",
    "description": "Names the conversation; without it other ids or the transcript do.",
    "schema": {"type": "string", "maxLength": MAX_ID_CHARS, "pattern": "^[A-Za-z0-9._:-]+$"},
}
_NAME: Schema = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_ANSWERS: Schema = {
    "200": {"description": "The answer, of the upstream where there is one."},
    "default": {"description": "An error, in the form of the caller's protocol."},
}


def document(served: Iterable[str]) -> dict[str, Any]:
    """The document of the paths that are served."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Turnout", "version": package_version()},
        "paths": {path: _item(path) for path in served},
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            }
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _item(path: str) -> dict[str, Any]:
    summary, body = _PATHS.get(path, ("Served beside the gateway.", _body()))
    if body is None:
        parameters = [_NAME] if "{name}" in path else []
        return {"get": {"summary": summary, "parameters": parameters, "responses": _ANSWERS}}
    content = {"application/json": {"schema": body}}
    operation = {
        "summary": summary,
        "parameters": [_CONVERSATION],
        "requestBody": {"required": True, "content": content},
        "responses": _ANSWERS,
    }
    return {"post": operation}
