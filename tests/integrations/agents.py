"""Requests in the shapes that Claude Code and Codex were seen to send; the words are ours."""

import json
import uuid

import httpx

REMINDER = "<system-reminder>\nprove and derive: use tabs\n</system-reminder>"
READ = {"name": "Read", "description": "Reads a file.", "input_schema": {"type": "object"}}


def text(words, **more):
    return {"type": "text", "text": words, **more}


class ClaudeCode:
    """One session of Claude Code at a gateway; it keeps the history as the real one does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = str(uuid.uuid4())
        self.messages: list[dict] = []

    def headers(self, **more: str) -> dict[str, str]:
        return {
            "user-agent": "claude-cli/2.1.332 (external, cli)", "x-app": "cli", "x-api-key": "k",
            "anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219",
            "x-claude-code-session-id": self.session,
            **{name.replace("_", "-"): value for name, value in more.items()},
        }  # fmt: skip

    def body(self, messages: list[dict], **more) -> dict:
        ids = {"device_id": "d", "account_uuid": "", "session_id": self.session}
        cached = {"cache_control": {"type": "ephemeral"}}
        return {
            "model": "turnout", "max_tokens": 32000, "messages": messages, "stream": True,
            "system": [text("x-anthropic-billing-header: cc_version=2.1.332"),
                       text("You are a coding agent. Derive everything.", **cached)],
            "metadata": {"user_id": json.dumps(ids)}, "tools": [READ],
            "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, **more,
        }  # fmt: skip

    def post(self, body: dict, path: str = "/v1/messages", **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.url}{path}?beta=true", json=body, headers=self.headers(**headers), timeout=20
        )

    def ask(self, words: str, **headers: str) -> httpx.Response:
        """A person's turn."""
        content = [text(words)] if self.messages else [text(REMINDER), text(words)]
        self.messages.append({"role": "user", "content": content})
        return self._sent(**headers)

    def give_result(self, **headers: str) -> httpx.Response:
        """The result of a tool, in the same turn."""
        called = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {}}
        self.messages[-1]["content"].append(called)
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "derive prove"}
        self.messages.append({"role": "user", "content": [result, text(REMINDER)]})
        return self._sent(**headers)

    def title(self) -> httpx.Response:
        schema = {"type": "object", "properties": {"title": {"type": "string"}}}
        asked = [{"role": "user", "content": [text("<session>prove it</session>")]}]
        config = {"format": {"type": "json_schema", "schema": schema}}
        return self.post(self.body(asked, tools=[], output_config=config))

    def sub_agent(self, agent: str, words: str) -> httpx.Response:
        asked = [{"role": "user", "content": [text(words)]}]
        return self.post(self.body(asked), x_claude_code_agent_id=agent)

    def compact(self) -> httpx.Response:
        """Ask for a summary; the history is then that summary alone."""
        last = "CRITICAL: Respond with TEXT ONLY. Summarise: prove, derive."
        asked = [*self.messages, {"role": "user", "content": [text(last)]}]
        answer = self.post(self.body(asked))
        summary = "This session is being continued from a previous conversation: prove, derive."
        self.messages = [{"role": "user", "content": [text(summary)]}]
        return answer

    def count_tokens(self) -> httpx.Response:
        asked = {"model": "turnout", "messages": [{"role": "user", "content": "foo"}]}
        return self.post(asked, "/v1/messages/count_tokens")

    def _sent(self, **headers: str) -> httpx.Response:
        answer = self.post(self.body(self.messages), **headers)
        if answer.is_success:
            said = [text(f"from {answer.headers['x-turnout-model']} ✓")]
            self.messages.append({"role": "assistant", "content": said})
        return answer


def item(role, words):
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": words}]}


class Codex:
    """One session of Codex at a gateway."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = str(uuid.uuid4())
        self.window = 0
        self.items = [
            item("developer", "You are a coding agent. Derive everything."),
            item("user", "<environment_context>\n<cwd>/prove</cwd>\n</environment_context>"),
        ]

    def post(
        self,
        items: list[dict],
        session: str | None = None,
        more_headers: dict[str, str] | None = None,
        **metadata,
    ) -> httpx.Response:
        session = session or self.session
        said = {"request_kind": "turn", "thread_source": "user", "window_number": self.window,
                "turn_id": str(uuid.uuid4()), **metadata}  # fmt: skip
        headers = {
            "user-agent": "codex_cli_rs/0.171.0 (Linux; x86_64)", "originator": "codex-tui",
            "authorization": "Bearer k", "session-id": session, "thread-id": session,
            "x-codex-window-id": f"{session}:{self.window}",
            "x-codex-turn-metadata": json.dumps(said), **(more_headers or {}),
        }  # fmt: skip
        body = {"model": "turnout", "stream": True, "store": False, "input": items,
                "include": ["reasoning.encrypted_content"], "prompt_cache_key": session,
                "tools": [{"type": "function", "name": "shell", "parameters": {}}]}  # fmt: skip
        return httpx.post(f"{self.url}/v1/responses", json=body, headers=headers, timeout=20)

    def ask(self, words: str) -> httpx.Response:
        self.items.append(item("user", words))
        answer = self.post(self.items)
        self.items.append(item("assistant", f"from {answer.headers['x-turnout-model']} ✓"))
        return answer

    def give_result(self) -> httpx.Response:
        called = {"type": "function_call", "call_id": "c", "name": "shell", "arguments": "{}"}
        result = {"type": "function_call_output", "call_id": "c", "output": "prove derive"}
        self.items += [called, result]
        return self.post(self.items)

    def title(self) -> httpx.Response:
        asked = [item("user", "Name this: prove it")]
        return self.post(asked, str(uuid.uuid4()), thread_source="thread_title")

    def sub_agent(self, words: str, kind: str = "thread_spawn") -> httpx.Response:
        """A thread of the same session that works for it; a review is one too."""
        thread = str(uuid.uuid4())
        said = {"thread_source": "subagent", "subagent_kind": kind, "thread_id": thread,
                "parent_thread_id": self.session}  # fmt: skip
        headers = {"thread-id": thread, "x-openai-subagent": kind,
                   "x-codex-parent-thread-id": self.session}  # fmt: skip
        return self.post([*self.items[:2], item("user", words)], more_headers=headers, **said)

    def interrupt(self, words: str) -> None:
        """A turn that is stopped before anything was answered."""
        stopped = "<turn_aborted>\nThe user stopped the turn.\n</turn_aborted>"
        self.items += [item("user", words), item("user", stopped)]

    def compact(self) -> httpx.Response:
        """Ask for a summary; the person's messages and the summary are then the history."""
        answer = self.post([*self.items, item("user", "Summarise.")], request_kind="compaction")
        self.window += 1
        summary = "Another language model started to solve this problem and produced a summary: "
        said = [each for each in self.items[2:] if each.get("role") == "user"]
        self.items = [*self.items[:2], *said, item("user", f"{summary} prove, derive.")]
        return answer
