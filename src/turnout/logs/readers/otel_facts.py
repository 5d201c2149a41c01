"""What a span's attributes tell of a model call, by the names of every convention.

OpenTelemetry's for generative AI, OpenLLMetry's before it (`llm.request.model`), OpenInference's
(`llm.model_name`), and the Vercel AI SDK's (`ai.model.id`). Knows no file.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from turnout.logs.readers.messages import Values, first_of, mapping, parsed

# A call of a model; a span around calls that repeats them; anything else.
SpanKind: TypeAlias = Literal["call", "wrapper", "other"]

_PREFIXES = (
    "gen_ai.", "llm.", "ai.", "openinference.", "langfuse.observation.", "mlflow.span",
    "braintrust.",
)  # fmt: skip
_MODELS = (
    "gen_ai.response.model", "llm.response.model", "llm.response.model_name", "ai.response.model",
    "gen_ai.request.model", "llm.request.model", "llm.request.model_name", "llm.model_name",
    "ai.model.id", "langfuse.observation.model.name", "llm.model",
)  # fmt: skip
_SESSIONS = (
    "conversation_id", "session_id", "thread_id", "chat_id",
    "conversationId", "sessionId", "threadId", "chatId",
)  # fmt: skip
_CALLERS = ("traceloop.association.properties.", "ai.telemetry.metadata.", "metadata.")
_CONVERSATIONS = (
    "gen_ai.conversation.id", "session.id", "langfuse.session.id",
    *(f"{caller}{name}" for caller in _CALLERS for name in _SESSIONS),
)  # fmt: skip
_USERS = (
    "user.id", "enduser.id", "langfuse.user.id",
    *(f"{caller}{name}" for caller in _CALLERS for name in ("user_id", "userId")),
)  # fmt: skip
_SPENT = {
    "prompt_tokens": (
        "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens",
        "llm.token_count.prompt", "ai.usage.inputTokens", "ai.usage.promptTokens",
    ),
    "completion_tokens": (
        "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens",
        "llm.usage.completion_tokens", "llm.token_count.completion", "ai.usage.outputTokens",
        "ai.usage.completionTokens",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens", "llm.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning", "ai.usage.reasoningTokens",
    ),
    "cached_tokens": (
        "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.details.cache_read_tokens", "llm.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read", "ai.usage.cachedInputTokens",
    ),
}  # fmt: skip
# Operations of the conventions for generative AI that are no model call: in some a user asks
# nothing, others stand around calls.
_WRAPPERS = {"invoke_agent", "invoke_workflow"}
_OTHERS = {"embeddings", "retrieval", "execute_tool", "create_agent"}
# What trackers call the kinds of their spans, where they say so.
_KINDS = ("langfuse.observation.type", "mlflow.spanType", "langsmith.span.kind")
_CALLS = {"generation", "llm", "chat_model"}
_OTHER_REQUESTS = {"embedding", "embeddings", "rerank"}
_CALLS_OF_AI_SDK = (".doGenerate", ".doStream")
_WRAPPERS_OF_AI_SDK = {"ai.generateText", "ai.streamText", "ai.generateObject", "ai.streamObject"}


def is_of_models(facts: Values) -> bool:
    """Whether any attribute is of a convention for models."""
    return any(name.startswith(_PREFIXES) for name in facts)


def span_kind(facts: Values) -> SpanKind:
    """What a span is, by what it says of itself; a call where it says nothing."""
    if facts.get("openinference.span.kind") is not None:
        return _by_open_inference(str(facts["openinference.span.kind"]).upper())
    for name in _KINDS:
        if (kind := str(facts.get(name) or "").strip('"').lower()) and kind not in _CALLS:
            return "wrapper" if kind in ("agent", "chain", "span") else "other"
    operation = str(facts.get("ai.operationId") or facts.get("operation.name") or "").split(" ")[0]
    if operation.startswith("ai."):
        if operation.endswith(_CALLS_OF_AI_SDK):
            return "call"
        return "wrapper" if operation in _WRAPPERS_OF_AI_SDK else "other"
    operation = str(facts.get("gen_ai.operation.name"))
    if operation in _OTHERS or str(facts.get("llm.request.type")) in _OTHER_REQUESTS:
        return "other"
    return "wrapper" if operation in _WRAPPERS else "call"


def _by_open_inference(kind: str) -> SpanKind:
    if kind == "LLM":
        return "call"
    return "wrapper" if kind in ("AGENT", "CHAIN") else "other"


def facts_of_call(facts: Values) -> dict[str, Any]:
    """Conversation, model, user and tokens, each None where no attribute tells it."""
    facts = _with_metadata(facts)
    return {
        "conversation_id": first_of(facts, _CONVERSATIONS),
        "model": first_of(facts, _MODELS) or _asked_model(facts),
        "user_id": first_of(facts, _USERS),
    } | {field: first_of(facts, names) for field, names in _SPENT.items()}


def _asked_model(facts: Values) -> object:
    """OpenInference has a call's parameters as JSON in one attribute."""
    parameters = mapping(parsed(facts.get("llm.invocation_parameters")))
    return first_of(parameters, ("model", "model_name"))


def _with_metadata(facts: Values) -> Values:
    """OpenInference's metadata is JSON in one attribute."""
    metadata = mapping(parsed(facts.get("metadata")))
    return {**facts, **{f"metadata.{name}": value for name, value in metadata.items()}}
