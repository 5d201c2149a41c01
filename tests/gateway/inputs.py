"""Requests made from the gateway's own OpenAPI document, right ones and wrong ones.

Everything comes from a seeded generator, so that a failure can be made again from its number.
"""

import json
import random
from dataclasses import dataclass

WORDS = (
    "hello", "prove it", "turnout", "auto", "quick-1", "user", "assistant", "system", "tool",
    "text", "<system-reminder>x</system-reminder>", "### Task:\n title <chat_history>", "\ud83d",
    "会話", "", " ", "\x00", "data: [DONE]\n\n", "x" * 300,
)  # fmt: skip
NAMES = (
    "model", "messages", "input", "stream", "role", "content", "type", "text", "metadata", "user",
    "tools", "tool_calls", "function", "name", "system", "output_config", "reasoning", "effort",
    "conversation", "previous_response_id", "conversation_id", "session_id", "prompt_cache_key",
    "stream_options", "include_usage", "max_tokens", "user_id", "thinking", "index", "id", "usage",
    "choices", "delta", "message", "error", "prompt_tokens", "output", "response", "item",
    "content_block", "finish_reason", "questions", "state", "criteria", "instructions",
)  # fmt: skip
HEADERS = (
    b"x-turnout-conversation-id", b"session-id", b"x-claude-code-session-id", b"user-agent",
    b"x-codex-turn-metadata", b"x-claude-code-agent-id", b"authorization", b"origin", b"host",
    b"connection", b"content-type", b"x-user", b"x-turnout-threshold", b"x-acme-session-id",
    b"x-codex-window-id", b"anthropic-version", b"x-api-key", b"content-encoding",
)  # fmt: skip
TOKENS = (b"{", b"}", b"[", b"]", b'"', b",", b":", b"1e999", b"-", b"\\u", b"\xff", b"null")


@dataclass(frozen=True)
class Input:
    """One request."""

    method: str
    path: str
    query: bytes
    headers: list
    body: bytes


class Inputs:
    """Makes inputs from a document."""

    def __init__(self, document, seed):
        self._random = random.Random(seed)
        self._operations = [
            (method.upper(), path, operation)
            for path, item in document["paths"].items()
            for method, operation in item.items()
        ]

    def request(self):
        """The next request."""
        rng = self._random
        takes_body = rng.random() < 0.9
        method, path, operation = rng.choice(
            [each for each in self._operations if ("requestBody" in each[2]) == takes_body]
        )
        body = self._body(operation)
        path = path.replace("{name}", rng.choice(["turnout", "nope", "a/b", "%00"]))
        if rng.random() < 0.03:
            method = rng.choice(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE"])
        if rng.random() < 0.02:
            path += rng.choice(["/", "/x", "//", "é"])
        query = rng.choice([b""] * 20 + [b"beta=true", b"key=x", b"%ff=%", b"&&=;"])
        return Input(method, path, query, self._headers(), body)

    def answer(self):
        """Bytes such as an upstream may send: events or an object, right or wrong."""
        rng = self._random
        if rng.random() < 0.3:
            return self._bytes(self.value())
        events = (self._event() for _ in range(rng.randrange(6)))
        return b"".join(events) + rng.choice([b"", b"data: [DONE]\n\n", b"data:"])

    def value(self, depth=0):
        """Any JSON value."""
        rng = self._random
        kind = rng.randrange(9 if depth < 4 else 6)
        if kind < 6:
            return (
                rng.choice(WORDS), rng.choice(WORDS), rng.randrange(-9, 99),
                rng.choice([1e30, 0.5]), rng.choice([True, False, None]), 10 ** rng.randrange(30),
            )[kind]  # fmt: skip
        if kind == 6:
            return [self.value(depth + 1) for _ in range(rng.randrange(4))]
        return {rng.choice(NAMES): self.value(depth + 1) for _ in range(rng.randrange(5))}

    def _event(self):
        rng = self._random
        name = rng.choice([b"", b"", b"event: error\n", b"event: x\r\n", b": ping\n", b"id: 1\n"])
        end = rng.choice([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n"])
        return name + b"data: " + self._bytes(self.value()) + end

    def _body(self, operation):
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        if schema is None:
            return b""
        value = self._like(schema)
        if isinstance(value, dict):
            for _ in range(self._random.randrange(3)):
                value[self._random.choice(NAMES)] = self.value()
        return self._bytes(value)

    def _like(self, schema):
        """A value that a schema describes; now and then another."""
        rng = self._random
        if rng.random() < 0.1:
            return self.value()
        kind = schema.get("type")
        kind = rng.choice(kind) if isinstance(kind, list) else kind
        if kind == "object":
            named = schema.get("properties", {}).items()
            like = {name: self._like(each) for name, each in named if rng.random() < 0.9}
            if "model" in like and rng.random() < 0.8:
                like["model"] = rng.choice(["turnout", "auto", "quick-1"])
            return like
        if kind == "array":
            return [self._like(schema.get("items", {})) for _ in range(rng.randrange(4))]
        simple = {
            "string": rng.choice(WORDS), "boolean": rng.random() < 0.5,
            "integer": rng.randrange(99), "null": None,
        }  # fmt: skip
        return simple[kind] if kind in simple else self.value()

    def _headers(self):
        rng = self._random
        headers = [(b"content-type", b"application/json")] if rng.random() < 0.9 else []
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            value = rng.choice(WORDS).encode("utf-8", "surrogatepass")
            if rng.random() < 0.3:
                value = rng.randbytes(rng.randrange(20))
            headers.append((rng.choice(HEADERS), value))
        return headers

    def _bytes(self, value):
        """A value as JSON; now and then not quite."""
        rng = self._random
        data = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        if rng.random() < 0.1:
            begin = rng.randrange(len(data) + 1)
            data = data[:begin] + rng.choice(TOKENS) + data[begin + rng.randrange(3) :]
        return data
