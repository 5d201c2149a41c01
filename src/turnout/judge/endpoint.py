"""A chat completions endpoint that answers questions; knows no rubric's meaning and no log.

Speaks through OpenAI's own client, which retries what may pass (429, 5xx, a lost connection) with
growing pauses, or as long as Retry-After asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from turnout.errors import SettingsError, UpstreamError
from turnout.judge.verdicts import ANSWER_SCHEMA, Verdict, read_answer

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# Enough for a model that thinks before it answers; also the bound of what an answer can cost.
MAX_ANSWER_TOKENS = 2000
_TIMEOUT_S = 120.0
_RETRIES = 6
# What an endpoint may not know, in the order in which it is given up: the exact form of the answer,
# the newer name of the token bound, any form.
_DIALECTS: tuple[dict[str, Any], ...] = (
    {
        "response_format": {"type": "json_schema", "json_schema": ANSWER_SCHEMA},
        "max_completion_tokens": MAX_ANSWER_TOKENS,
    },
    {
        "response_format": {"type": "json_schema", "json_schema": ANSWER_SCHEMA},
        "max_tokens": MAX_ANSWER_TOKENS,
    },
    {"response_format": {"type": "json_object"}, "max_tokens": MAX_ANSWER_TOKENS},
    {"max_tokens": MAX_ANSWER_TOKENS},
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        verdict: The answer, read.
        prompt_tokens: As the endpoint counted; None where it did not.
        completion_tokens: The same, thinking included.
        cached_tokens: Prompt tokens read from its cache.
    """

    verdict: Verdict
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0


class Endpoint:
    """One model behind one address; an async context manager.

    Args:
        base_url: Up to and with the version, such as `https://api.openai.com/v1`.
        model: As the endpoint knows it.
        api_key: None for endpoints that want none.
    """

    def __init__(self, base_url: str, model: str, api_key: str | None) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise SettingsError(
                f"--base-url: found {base_url!r}; expected http:// or https:// up to and with the "
                "version, such as https://api.openai.com/v1."
            )
        from openai import AsyncOpenAI

        self._client: AsyncOpenAI = AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=_RETRIES,
            timeout=_TIMEOUT_S,
        )
        self._where = base_url
        self._model = model
        self._dialect = 0

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def ask(self, rubric: str, question: str) -> Reply:
        """Ask one question.

        Returns:
            A reply; its verdict's status is "failed" where the endpoint gave none in the end.

        Raises:
            UpstreamError: If the endpoint will answer nothing: the key, the model or the address is
                wrong.
        """
        import openai

        messages = [
            {"role": "system", "content": rubric},
            {"role": "user", "content": question},
        ]
        for dialect in range(self._dialect, len(_DIALECTS)):
            try:
                reply = await self._sent(messages, dialect)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = error
                continue
            except (
                openai.AuthenticationError,
                openai.PermissionDeniedError,
                openai.NotFoundError,
            ) as error:
                raise UpstreamError(
                    f"{self._where}: {self._model} answers {error.status_code} "
                    f"({_told(error)}); expected an endpoint of chat completions that knows this "
                    "model and key. Check --base-url, --model and the key's environment variable."
                ) from error
            except openai.OpenAIError as error:
                return Reply(Verdict("failed", None, _told(error)))
            # Nobody else asks in a dialect that was just refused.
            self._dialect = max(self._dialect, dialect)
            return reply
        return Reply(Verdict("failed", None, _told(refused)))

    async def _sent(self, messages: list[dict[str, str]], dialect: int) -> Reply:
        create: Any = self._client.chat.completions.create
        answer = await create(model=self._model, messages=messages, **_DIALECTS[dialect])
        choices = getattr(answer, "choices", None)
        if not choices:
            return Reply(Verdict("failed", None, "an answer without choices"))
        message = choices[0].message
        verdict = read_answer(
            message.content, choices[0].finish_reason, getattr(message, "refusal", None)
        )
        usage = answer.usage
        if usage is None:
            return Reply(verdict)
        details = getattr(usage, "prompt_tokens_details", None)
        cached = getattr(details, "cached_tokens", None) or 0
        return Reply(verdict, usage.prompt_tokens, usage.completion_tokens, cached)


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
