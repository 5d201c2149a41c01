"""A gateway that is asked whatever its own document allows, and what it does not."""

import asyncio
import contextlib
import json

from tests.gateway.conftest import options_for
from tests.gateway.inputs import Inputs
from tests.servers import running
from tests.tiny_router import write_router
from turnout.gateway.app import create_app
from turnout.integrations.system_one import system_one_routes
from turnout.protocols import WIRE_FORMATS, AnswerReader, read_answer, read_request, split_harness
from turnout.protocols.event_stream import json_object
from turnout.routing import Router
from turnout.routing.served import Served

TIMEOUT_S = 30


class Fuzzed:
    """A gateway in this process, asked without a socket; its upstream is on one.

    Attributes:
        statuses: Status → how many answers had it.
    """

    def __init__(self, folder, url, answers, seed):
        router = Router.from_folder(write_router(folder / "router", "conversation"))
        self.app = create_app(router, options_for(url, folder / "journal"), system_one_routes)
        self.statuses = {}
        self._journal = folder / "journal"
        self._answers = answers
        self._loop = asyncio.new_event_loop()
        _, document = self._ask("GET", "/openapi.json", b"", [], b"")
        self._inputs = Inputs(json.loads(document), seed)

    def request(self):
        """Ask the next request; its upstream sends any bytes."""
        given = self._inputs.request()
        self._answers[:] = [self._inputs.answer() for _ in range(2)]
        status, body = self._ask(given.method, given.path, given.query, given.headers, given.body)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        assert status < 500, (given, body)
        # Its own errors are JSON, in one of the two forms.
        if status >= 400 and body:
            assert isinstance(json.loads(body), dict), (given, body)

    def read(self):
        """Give the next bytes to every reader, whole and cut."""
        data = self._inputs.answer()
        values = json_object(data.partition(b"data: ")[2] or data)
        for wire_format in WIRE_FORMATS.values():
            wire_format.read_request(values)
            for streamed in (True, False):
                whole = AnswerReader(wire_format, streamed=streamed)
                cut = AnswerReader(wire_format, streamed=streamed)
                passed = whole.feed(data) + whole.close()
                again = b"".join(
                    cut.feed(data[begin : begin + 7]) for begin in range(0, len(data), 7)
                )
                assert passed == again + cut.close() == data
                assert whole.answer() == cut.answer()
        read_request(values)
        read_answer(values)
        split_harness(data.decode("utf-8", "replace"))

    def close(self):
        """Stop, and read the whole journal back; gives how many records it has."""
        self._loop.run_until_complete(self.app.state.gateway.close())
        self._loop.close()
        assert not self.app.state.gateway.runtime.journal.lost_lines
        paths = sorted(self._journal.glob("*.jsonl"))
        # Not `splitlines`: a text may hold other characters that end lines.
        lines = [line for path in paths for line in path.read_text().split("\n") if line]
        for line in lines:
            Served.from_json(json.loads(line))
        return len(lines)

    def _ask(self, *given):
        asked = asyncio.wait_for(self._asked(*given), TIMEOUT_S)
        return self._loop.run_until_complete(asked)

    async def _asked(self, method, path, query, headers, body):
        sent = [{"type": "http.request", "body": body, "more_body": False}]
        got = []

        async def receive():
            if sent:
                return sent.pop()
            await asyncio.sleep(2 * TIMEOUT_S)
            return {"type": "http.disconnect"}

        async def send(message):
            got.append(message)

        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(),
            "query_string": query, "root_path": "", "headers": list(headers),
        }  # fmt: skip
        await self.app(scope, receive, send)
        assert not got[-1].get("more_body")
        return got[0]["status"], b"".join(message.get("body", b"") for message in got)


@contextlib.contextmanager
def fuzzed(folder, seed):
    """Such a gateway, its upstream running."""
    answers = []

    async def upstream(scope, receive, send):
        if scope["type"] == "http":
            answer = answers.pop() if answers else b"{}"
            kind = b"application/json" if answer[:1] in (b"{", b"[") else b"text/event-stream"
            head = {"status": 200, "headers": [(b"content-type", kind)]}
            await send({"type": "http.response.start", **head})
            await send({"type": "http.response.body", "body": answer})

    with running(upstream) as url:
        yield Fuzzed(folder, url, answers, seed)
