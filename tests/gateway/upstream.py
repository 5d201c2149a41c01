"""An upstream that speaks all three wire formats, and misbehaves as its last message asks."""

import asyncio
import json
import threading

from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route


def chat_chunk(model, delta, **more):
    chunk = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }
    return f"data: {json.dumps(chunk | more)}\n\n".encode()


def named_event(name, **values):
    return f"event: {name}\ndata: {json.dumps({'type': name, **values})}\n\n".encode()


class Chat:
    """Chat completions."""

    path = "/v1/chat/completions"

    @staticmethod
    def asked(body):
        content = body["messages"][-1].get("content") or ""
        return content if isinstance(content, str) else str(content)

    @staticmethod
    def answer(model, text, answer_id):
        return {
            "id": answer_id,
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text},
                }
            ],
            "usage": {
                "prompt_tokens": 7,
                "completion_tokens": 5,
                "total_tokens": 12,
                "completion_tokens_details": {"reasoning_tokens": 3},
                "prompt_tokens_details": {"cached_tokens": 2},
            },
        }

    @staticmethod
    def begin(model, answer_id):
        return chat_chunk(model, {"role": "assistant", "content": ""})

    @staticmethod
    def piece(model, text):
        return chat_chunk(model, {"content": text})

    @staticmethod
    def end(model, text, answer_id, body):
        yield chat_chunk(model, {}, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        if body.get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
            yield chat_chunk(model, {}, choices=[], usage=usage)
        yield b"data: [DONE]\n\n"

    error_event = b'data: {"error": {"message": "out of memory", "type": "server_error"}}\n\n'


class Responses:
    """OpenAI responses."""

    path = "/v1/responses"

    @staticmethod
    def asked(body):
        given = body["input"]
        if isinstance(given, str):
            return given
        content = given[-1].get("content") or given[-1].get("output") or ""
        return content if isinstance(content, str) else content[-1].get("text", "")

    @staticmethod
    def answer(model, text, answer_id):
        return {
            "id": answer_id,
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": model,
            "output": [Responses._item(text)],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": 7,
                "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
                "output_tokens": 5,
                "output_tokens_details": {"reasoning_tokens": 3},
                "total_tokens": 12,
            },
        }

    @staticmethod
    def _item(text):
        part = {"type": "output_text", "text": text, "annotations": []}
        return {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }

    @staticmethod
    def begin(model, answer_id):
        whole = Responses.answer(model, "", answer_id) | {"status": "in_progress", "output": []}
        item = Responses._item("") | {"status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": []}
        place = {"item_id": "m1", "output_index": 0, "content_index": 0}
        return (
            named_event("response.created", response=whole, sequence_number=0)
            + named_event("response.output_item.added", item=item, output_index=0)
            + named_event("response.content_part.added", part=part, **place)
        )

    @staticmethod
    def piece(model, text):
        return named_event(
            "response.output_text.delta",
            delta=text,
            item_id="m1",
            output_index=0,
            content_index=0,
            logprobs=[],
            sequence_number=2,
        )

    @staticmethod
    def end(model, text, answer_id, body):
        whole = Responses.answer(model, text, answer_id)
        yield named_event("response.completed", response=whole, sequence_number=9)

    error_event = named_event(
        "response.failed",
        response={"id": "r", "status": "failed", "error": {"code": "x", "message": "no memory"}},
    )


class Messages:
    """Anthropic messages."""

    path = "/v1/messages"

    @staticmethod
    def asked(body):
        content = body["messages"][-1]["content"]
        if isinstance(content, str):
            return content
        return next((p["text"] for p in reversed(content) if p["type"] == "text"), "")

    @staticmethod
    def answer(model, text, answer_id):
        return {
            "id": answer_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 4,
                "cache_creation_input_tokens": 1,
                "cache_read_input_tokens": 2,
                "output_tokens": 5,
            },
        }

    @staticmethod
    def begin(model, answer_id):
        start = Messages.answer(model, "", answer_id) | {"content": [], "stop_reason": None}
        return named_event("message_start", message=start) + named_event(
            "content_block_start", index=0, content_block={"type": "text", "text": ""}
        )

    @staticmethod
    def piece(model, text):
        delta = {"type": "text_delta", "text": text}
        return named_event("content_block_delta", index=0, delta=delta)

    @staticmethod
    def end(model, text, answer_id, body):
        yield named_event("content_block_stop", index=0)
        yield named_event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": 5},
        )
        yield named_event("message_stop")

    error_event = named_event("error", error={"type": "overloaded_error", "message": "busy"})


PROTOCOLS = (Chat, Responses, Messages)


class UpstreamApp:
    """Remembers what it was sent; answers with the name of the model that was asked for."""

    def __init__(self):
        self.bodies: list[dict] = []
        self.raw: list[bytes] = []
        self.headers: list[dict] = []
        self.urls: list[str] = []
        self.ended: list[str] = []
        self.n_answers = 0
        self._released = threading.Event()
        routes = [
            Route(p.path, self._endpoint(p), methods=["POST"], name=p.__name__) for p in PROTOCOLS
        ]
        routes += [
            Route("/v1/messages/count_tokens", self.count, methods=["POST"]),
            Route("/v1/embeddings", self.embeddings, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    def release(self):
        """Let answers that wait go on; from any thread."""
        self._released.set()

    def models(self):
        """The models that were asked for."""
        return [body["model"] for body in self.bodies]

    def _endpoint(self, protocol):
        async def handle(request):
            return await self._answered(protocol, request)

        return handle

    async def _note(self, request):
        self.raw.append(await request.body())
        body = json.loads(self.raw[-1])
        self.headers.append(dict(request.headers))
        self.urls.append(str(request.url))
        self.bodies.append(body)
        return body

    async def count(self, request):
        await self._note(request)
        return JSONResponse({"input_tokens": 42})

    async def embeddings(self, request):
        body = await self._note(request)
        data = [{"object": "embedding", "index": 0, "embedding": "AAAAAA=="}]
        return JSONResponse({"object": "list", "model": body["model"], "data": data})

    async def completions(self, request):
        prompt = (await self._note(request))["prompt"]
        if prompt == "redirect please":
            return RedirectResponse("http://127.0.0.1:1/elsewhere", 307)
        return StreamingResponse(self._completed(prompt), media_type="text/event-stream")

    async def _completed(self, prompt):
        try:
            yield b"data: {}\n\n"
            if prompt == "break off":
                raise ConnectionError("the upstream's process died")
            while prompt == "never stop":
                await asyncio.sleep(0.01)
                yield b"data: {}\n\n"
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        yield b"data: [DONE]\n\n"

    async def _wait(self):
        while not self._released.is_set():
            await asyncio.sleep(0.01)

    async def _answered(self, protocol, request):
        body = await self._note(request)
        asked, model = protocol.asked(body), body["model"]
        if asked == "be silent":
            try:
                await asyncio.wait_for(self._wait(), 20)
            except asyncio.CancelledError:
                self.ended.append("cancelled")
                raise
            self.ended.append("answered")
        early = self._early(asked, model)
        if early is not None:
            return early
        self.n_answers += 1
        answer_id = f"a{self.n_answers}"
        if body.get("stream"):
            events = self._events(protocol, body, asked, answer_id)
            media_type = asked[len("stream as ") :] if asked.startswith("stream as ") else None
            return StreamingResponse(
                events, headers={"content-type": media_type or "text/event-stream"}
            )
        answer = protocol.answer(model, f"from {model}", answer_id)
        headers = {"x-request-id": f"up-{self.n_answers}", "set-cookie": "session=of-the-account"}
        return JSONResponse(answer, headers=headers)

    def _early(self, asked, model):
        """An answer other than the regular one."""
        if asked == "fail please" or asked == f"fail on {model}":
            return JSONResponse(
                {"error": {"message": "slow down", "type": "rate"}},
                429,
                headers={"retry-after": "7"},
            )
        if asked == f"break on {model}":
            return JSONResponse({"error": {"message": "broken"}}, 500)
        if asked == "refuse please":
            return JSONResponse({"error": {"message": "no such parameter"}}, 400)
        if asked == "redirect please":
            return RedirectResponse("http://127.0.0.1:1/elsewhere", 307)
        if asked == "not json please":
            return Response(b"\xff\xfe", headers={"content-type": "application/json"})
        return None

    async def _events(self, protocol, body, asked, answer_id):
        model = body["model"]
        try:
            yield protocol.begin(model, answer_id)
            yield protocol.piece(model, "from ")
            if asked == "wait for me" or asked.startswith("stream as "):
                await asyncio.wait_for(self._wait(), 20)
            if asked == "break off":
                raise ConnectionError("the upstream's process died")
            if asked == "end early":
                return
            if asked == "fail in the stream":
                yield protocol.error_event
                return
            while asked == "never stop":
                await asyncio.sleep(0.01)
                yield protocol.piece(model, "more ")
            yield protocol.piece(model, model)
            for event in protocol.end(model, f"from {model}", answer_id, body):
                yield event
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("answered")
