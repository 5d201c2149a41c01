"""Reading bodies without keeping other requests waiting."""

import asyncio
import json
import threading

import pytest

from turnout.gateway.incoming import LARGE_BYTES, RequestHead, read_json

HEAD = RequestHead.from_scope({"method": "POST", "headers": []})


def read(chunks, what):
    sent = [{"body": chunk, "more_body": True} for chunk in chunks] + [{"body": b""}]

    async def receive():
        return {"type": "http.request"} | sent.pop(0)

    return asyncio.run(read_json(HEAD, receive, 1 << 30, what))


@pytest.mark.parametrize("is_large", [False, True])
def test_what_a_large_body_says_is_read_in_a_thread(is_large):
    text = json.dumps({"messages": ["x" * LARGE_BYTES if is_large else "x"]}).encode()
    thread = read([text], lambda body: threading.current_thread())
    assert (thread is threading.main_thread()) != is_large


def test_a_body_in_chunks_is_read_whole():
    chunks = [b'{"a": ', b"[1, 2", b"]}"]
    assert read(chunks, lambda body: body.values) == {"a": [1, 2]}
