"""What the gateway refuses, and how it says so in the caller's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnout.gateway.forward import Forwarded, NoAnswerError

Headers = Sequence[tuple[bytes, bytes]]


class Problem(Exception):
    """A request that ends with an error of the gateway's own.

    Attributes:
        status: Of HTTP.
        code: For programs.
        headers: Sent with it.
    """

    def __init__(self, status: int, code: str, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = list(headers)


class BrokenAnswerError(Exception):
    """An answer broke off after its head was sent: the connection must be closed."""


def bad_request(message: str) -> Problem:
    """A request that cannot be used."""
    return Problem(400, "invalid_request_error", message)


def no_answer(error: NoAnswerError, headers: Headers = ()) -> Problem:
    """That no target answered."""
    if error.is_denied:
        # Asked again, the upstream would say the same; official clients follow this header.
        again = (b"x-should-retry", b"false")
        return Problem(502, "upstream_credentials", str(error), [*headers, again])
    if error.is_late:
        return Problem(504, "upstream_timeout", str(error), headers)
    return Problem(502, "upstream_error", str(error), headers)


def redirected(forwarded: Forwarded, headers: Headers = ()) -> Problem:
    """That an upstream answers with a redirect, which is neither followed nor relayed."""
    # Its query may hold a key.
    where = forwarded.response.headers.get("location", "").partition("?")[0][:200]
    what = f"with a redirect to {where!a}" if where else f"with status {forwarded.response.status}"
    upstream = forwarded.target.upstream
    return Problem(
        502,
        "upstream_redirect",
        f"upstream {upstream} answers {what}; expected an answer. Put the right address into the "
        f"url of [upstreams.{upstream}].",
        headers,
    )
