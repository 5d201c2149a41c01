"""A decided request → its upstream, and the response back as it arrives."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from turnout.errors import SettingsError, UpstreamError
from turnout.gateway.options import Target, Upstream

# For one connection only (RFC 9110, section 7.6.1), or set anew for the forwarded body.
_NOT_FORWARDED = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "content-length", "accept-encoding",
}  # fmt: skip
_OWN = "x-turnout-"
CONNECT_TIMEOUT_S = 10.0


class UpstreamTimeoutError(UpstreamError):
    """An upstream was silent for too long (HTTP 504)."""


class Forwarder:
    """Sends requests to upstreams over one pool of connections.

    Args:
        upstreams: By name.

    Raises:
        SettingsError: If an upstream's key is not in the environment.
    """

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams
        self._keys = {name: _key(name, upstream) for name, upstream in upstreams.items()}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._client = httpx.AsyncClient(limits=limits, follow_redirects=False)

    async def send(
        self, body: Mapping[str, Any], headers: Mapping[str, str], target: Target
    ) -> httpx.Response:
        """Forward a chat completion to its target; the response's body is still unread.

        The body is untouched but for `model` and the target's parameters.

        Raises:
            UpstreamError: If the upstream cannot be reached.
            UpstreamTimeoutError: If it is silent for too long.
        """
        upstream = self._upstreams[target.upstream]
        request = self._client.build_request(
            "POST",
            f"{upstream.url.rstrip('/')}/chat/completions",
            content=json.dumps(
                {**body, "model": target.model, **target.parameters}, ensure_ascii=False
            ).encode("utf-8", "surrogatepass"),
            headers=self._headers(headers, target.upstream),
            timeout=httpx.Timeout(upstream.timeout_s, connect=CONNECT_TIMEOUT_S),
        )
        try:
            return await self._client.send(request, stream=True)
        except httpx.TimeoutException as error:
            raise UpstreamTimeoutError(
                f"upstream {target.upstream} ({upstream.url}) did not answer within "
                f"{upstream.timeout_s:.0f} s. Try again, or raise its timeout_s."
            ) from error
        except httpx.HTTPError as error:
            raise UpstreamError(
                f"upstream {target.upstream} ({upstream.url}) cannot be reached "
                f"({type(error).__name__}). Check that it runs, and its url in turnout.toml."
            ) from error

    async def close(self) -> None:
        """Close the pool."""
        await self._client.aclose()

    def _headers(self, headers: Mapping[str, str], upstream: str) -> dict[str, str]:
        forwarded = {
            name: value
            for name, value in headers.items()
            if name.lower() not in _NOT_FORWARDED and not name.lower().startswith(_OWN)
        }
        # The answer is read for the journal on its way; compressed it could not be.
        forwarded |= {"accept-encoding": "identity", "content-type": "application/json"}
        if self._keys[upstream] is not None:
            forwarded = {n: v for n, v in forwarded.items() if n.lower() != "authorization"}
            forwarded["authorization"] = f"Bearer {self._keys[upstream]}"
        return forwarded


def relayed_headers(response: httpx.Response) -> dict[str, str]:
    """The upstream's headers that the caller gets too."""
    return {n: v for n, v in response.headers.items() if n.lower() not in _NOT_FORWARDED}


async def relayed_chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """The response's body as it arrives; the upstream's connection is let go at the end.

    Raises:
        UpstreamError: If the upstream breaks off.
    """
    try:
        async for chunk in response.aiter_raw():
            yield chunk
    except httpx.HTTPError as error:
        raise UpstreamError(
            f"upstream {response.url.host} broke off in mid-answer ({type(error).__name__})."
        ) from error
    finally:
        await response.aclose()


def _key(name: str, upstream: Upstream) -> str | None:
    if upstream.api_key_env is None:
        return None
    key = os.environ.get(upstream.api_key_env)
    if not key:
        raise SettingsError(
            f"upstream {name}: the environment has no {upstream.api_key_env}; expected "
            "its key there. Set it, or leave api_key_env out to pass callers' own keys on."
        )
    return key
