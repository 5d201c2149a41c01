"""OpenAI responses: requests and answers.

Source:
    OpenAI API reference, "Responses".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from turnout.protocols.parts import content_of, count, mapping, mappings, message_of, text
from turnout.protocols.records import Answer, Message, Request, Role, Usage

_ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant",
}  # fmt: skip
_CALLS = {"function_call", "custom_tool_call", "local_shell_call", "shell_call", "mcp_call",
          "web_search_call", "file_search_call", "code_interpreter_call"}  # fmt: skip


def read_request(body: Mapping[str, object]) -> Request:
    """What a request asks; items of unknown types are left out."""
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items = (_message(item) for item in mappings(given))
    answer_format = mapping(mapping(body.get("text")).get("format"))
    return Request(
        tuple(message for message in items if message is not None),
        text(body.get("model")),
        body.get("stream") is True,
        bool(body.get("tools")) or any(_offers_tools(item) for item in mappings(given)),
        mapping(answer_format.get("schema")),
    )


def read_answer(body: Mapping[str, object]) -> Answer:
    """What a whole answer says, and what it cost."""
    items = [message for item in mappings(body.get("output")) if (message := _message(item))]
    usage = mapping(body.get("usage"))
    details = usage.get("input_tokens_details")
    return Answer(
        "\n".join(item.text for item in items if item.role == "assistant" and item.text),
        tuple(name for item in items for name in item.tools),
        text(body.get("model")),
        Usage(
            count(usage, "input_tokens"),
            count(usage, "output_tokens"),
            count(usage.get("output_tokens_details"), "reasoning_tokens"),
            count(details, "cached_tokens"),
            count(details, "cache_write_tokens"),
        ),
        failed=bool(body.get("error")) or body.get("status") == "failed",
    )


def _message(item: Mapping[str, object]) -> Message | None:
    kind = text(item.get("type", "message"))
    if kind == "message" and str(item.get("role")) in _ROLES:
        return message_of(_ROLES[str(item["role"])], content_of(item.get("content")))
    if kind in _CALLS:
        name = text(item.get("name")) or str(kind).removesuffix("_call")
        return replace(Message("assistant"), tools=(name,))
    if isinstance(kind, str) and kind.endswith("_output"):
        return Message("tool")
    return None


def _offers_tools(item: Mapping[str, object]) -> bool:
    return item.get("type") == "additional_tools"
