"""What the gateway refuses, and how it says so in the caller's protocol."""

from __future__ import annotations

from collections.abc import Sequence


class Problem(Exception):
    """A request that ends with an error of the gateway's own.

    Attributes:
        status: Of HTTP.
        code: For programs.
        headers: Sent with it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = list(headers)


def bad_request(message: str) -> Problem:
    """A request that cannot be used."""
    return Problem(400, "invalid_request_error", message)
