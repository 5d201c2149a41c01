"""A chat completions endpoint, asked through OpenAI's own client, one attempt at a time."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
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
# As OpenAI's client has them.
_RETRIED = (408, 409, 429)
_MAX_RETRY_AFTER_S = 60.0
# Forms of a request, tried in order until the endpoint supports one: with a JSON schema, with the
# older name of the token bound, with any JSON, and with no answer format.
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
    """An endpoint's answer to a question.

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


class AttemptError(Exception):
    """An attempt without an answer.

    Attributes:
        may_be_billed: Whether the endpoint may have computed an answer: it timed out, was cut off
            or failed inside (5xx). A refusal (4xx) or a connection never made costs nothing.
        retried: Whether another attempt may succeed.
        retry_after_s: How long the endpoint asks to wait; None where it does not say.
    """

    def __init__(
        self,
        error: Exception,
        *,
        may_be_billed: bool,
        retried: bool,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(_one_line(error))
        self.may_be_billed = may_be_billed
        self.retried = retried
        self.retry_after_s = retry_after_s


class Endpoint:
    """One model behind one address; an async context manager.

    Args:
        base_url: Up to and with the version, such as `https://api.openai.com/v1`.
        model: As the endpoint names it.
        api_key: None for endpoints that need none.
        timeout_s: How long one attempt may wait for the endpoint.
    """

    def __init__(
        self, base_url: str, model: str, api_key: str | None, timeout_s: float = _TIMEOUT_S
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise SettingsError(
                f"--base-url: found {base_url!r}; expected http:// or https:// up to and with the "
                "version, such as https://api.openai.com/v1."
            )
        from openai import AsyncOpenAI

        # Every attempt is counted, so the client itself must not retry.
        self._client: AsyncOpenAI = AsyncOpenAI(
            base_url=base_url, api_key=api_key or "none", max_retries=0, timeout=timeout_s
        )
        self._base_url = base_url
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

    async def ask_once(self, rubric: str, question: str) -> Reply:
        """Ask one question, without retries; at most one answer of it is billed.

        A form of the request that the endpoint does not support costs nothing: the next form is
        then tried at once.

        Raises:
            AttemptError: If there is no answer.
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
                reply = await self._send(messages, dialect)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = error
                continue
            except (
                openai.AuthenticationError,
                openai.PermissionDeniedError,
                openai.NotFoundError,
            ) as error:
                raise UpstreamError(
                    f"{self._base_url}: {self._model} answers {error.status_code} "
                    f"({_one_line(error)}); expected an endpoint of chat completions with this "
                    "model and key. Check --base-url, --model and the key's environment variable."
                ) from error
            except openai.APIStatusError as error:
                status = error.status_code
                raise AttemptError(
                    error,
                    may_be_billed=status >= 500,
                    retried=status in _RETRIED or status >= 500,
                    retry_after_s=_retry_after_s(error.response.headers),
                ) from error
            except openai.APIConnectionError as error:
                raise AttemptError(
                    error, may_be_billed=not _never_connected(error), retried=True
                ) from error
            except (openai.OpenAIError, ValueError) as error:  # a body that is no JSON
                raise AttemptError(error, may_be_billed=True, retried=False) from error
            # Later questions skip the dialects that were refused.
            self._dialect = max(self._dialect, dialect)
            return reply
        raise AttemptError(refused, may_be_billed=False, retried=False)

    async def _send(self, messages: list[dict[str, str]], dialect: int) -> Reply:
        create: Any = self._client.chat.completions.create
        answer = await create(model=self._model, messages=messages, **_DIALECTS[dialect])
        choices = getattr(answer, "choices", None)
        if not choices:
            raise ValueError("an answer without choices")
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


def _never_connected(error: Exception) -> bool:
    """Whether the request cannot have reached the endpoint, by what its HTTP client raised."""
    return type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout", "PoolTimeout")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The pause that a response asks for: seconds or a date (RFC 9110), or milliseconds."""
    retry_after = headers.get("retry-after")
    try:
        if milliseconds := headers.get("retry-after-ms"):
            pause_s = float(milliseconds) / 1000
        elif retry_after is None:
            return None
        elif retry_after.replace(".", "", 1).isdecimal():
            pause_s = float(retry_after)
        else:
            pause_s = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
    except ValueError:
        return None
    return pause_s if 0 <= pause_s <= _MAX_RETRY_AFTER_S else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
