"""What every wire format answers; `chat`, `responses` and `messages` are modules of this type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from turnout.protocols import chat, messages, responses
from turnout.protocols.answer_reader import StreamedAnswer
from turnout.protocols.records import Answer, Request


class WireFormat(Protocol):
    """One wire format; each of the three modules is one."""

    NAME: str
    # The body's members that set a reasoning effort or switch thinking on and off.
    EFFORT_NAMES: tuple[str, ...]

    def read_request(self, body: Mapping[str, object]) -> Request:
        """What a request asks."""

    def read_answer(self, body: Mapping[str, object]) -> Answer:
        """What a whole answer says."""

    def streamed_answer(self) -> StreamedAnswer:
        """An empty answer, to be filled by events."""

    def effort_parameters(self, effort: str) -> dict[str, object]:
        """The parameters that ask for a reasoning effort."""

    def usage_parameters(self, body: Mapping[str, object]) -> dict[str, object]:
        """What to add to a request so that its answer says what it cost."""

    def is_usage_alone(self, event: Mapping[str, object]) -> bool:
        """Whether an event says nothing but what the answer cost."""

    def error_body(
        self, status: int, message: str, *, code: str | None = None
    ) -> dict[str, object]:
        """An error before anything was answered."""

    def models_body(self, names: Iterable[str]) -> dict[str, object]:
        """The answer of `GET /v1/models`."""

    def model_body(self, name: str) -> dict[str, object]:
        """The answer of `GET /v1/models/{name}`."""


WIRE_FORMATS: Mapping[str, WireFormat] = {
    "chat": chat,
    "responses": responses,
    "messages": messages,
}
"""The formats by name."""
