"""A router as a pre-call hook of the LiteLLM proxy: it sets the model and its parameters."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from turnout.integrations.litellm.decisions import decision_of, headers_of
from turnout.protocols import WIRE_FORMATS, WireFormat
from turnout.protocols.parts import mapping
from turnout.records import Decision, ModelClass
from turnout.routing import Router

_LOG = logging.getLogger(__name__)
_FORMATS = {"acompletion": "chat", "completion": "chat", "aresponses": "responses",
            "responses": "responses", "anthropic_messages": "messages"}  # fmt: skip
# Decisions whose answers have not begun yet.
_MAX_OPEN = 10_000


@dataclass(frozen=True, slots=True)
class HookTarget:
    """The target of a class.

    Attributes:
        model: A `model_name` of LiteLLM's `model_list`.
        effort: The reasoning effort to ask for, in whichever protocol the request is; None leaves
            the caller's.
        parameters: Members to set in the request's body; objects are merged into the caller's.
    """

    model: str
    effort: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)


class TurnoutHook(CustomLogger):  # type: ignore[misc]  # LiteLLM publishes no types
    """Routes requests for one model name.

    Make one in a module beside LiteLLM's settings and name it in `litellm_settings.callbacks`.
    `model_name` must be in `model_list` too: that model serves if no decision can be made.

    Args:
        router: A router, or its folder.
        targets: Class → target.
        model_name: The name that callers ask for to be routed.

    Raises:
        ArtifactError: If the folder is not a router.
    """

    def __init__(
        self,
        router: Router | str | Path,
        targets: Mapping[ModelClass, HookTarget],
        model_name: str = "turnout",
    ) -> None:
        super().__init__()
        self._router = router if isinstance(router, Router) else Router.from_folder(router)
        self._targets = dict(targets)
        self._model_name = model_name
        self._open: OrderedDict[str, Decision] = OrderedDict()

    async def async_pre_call_hook(
        self,
        user_api_key_dict: Any,  # noqa: ANN401 - LiteLLM's own types
        cache: Any,  # noqa: ANN401
        data: dict[str, Any],
        call_type: str,
    ) -> dict[str, Any]:
        """Set the model of a request for `model_name`; leave every other as it is."""
        wire_format = WIRE_FORMATS.get(_FORMATS.get(str(call_type), ""))
        if data.get("model") != self._model_name or wire_format is None:
            return data
        try:
            caller = getattr(user_api_key_dict, "api_key", None)
            decision = await asyncio.to_thread(self._decide, wire_format, data, caller)
            if decision is not None:
                self._set(wire_format, data, decision)
        except Exception:
            _LOG.exception("turnout could not route a request; %s serves it", self._model_name)
        return data

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,  # noqa: ANN401
        response: Any,  # noqa: ANN401
        **more: Any,  # noqa: ANN401
    ) -> dict[str, str]:
        """Headers with the decision."""
        decision = self._open.pop(str(data.get("litellm_call_id")), None)
        if decision is None:
            return {}
        headers = {
            "x-turnout-class": decision.model_class,
            "x-turnout-policy": decision.policy,
            "x-turnout-reason": decision.reason.replace("≥", ">="),
        }
        if decision.p_reasoning is not None:
            headers["x-turnout-p-reasoning"] = f"{decision.p_reasoning:.4f}"
        return headers

    def _decide(
        self, wire_format: WireFormat, data: Mapping[str, Any], caller: str | None
    ) -> Decision | None:
        original = mapping(data.get("proxy_server_request"))
        body = mapping(original.get("body")) or data
        metadata = {"user_api_key_hash": caller}
        request = wire_format.read_request(data)
        return decision_of(self._router, request, headers_of(original), body, metadata)

    def _set(
        self, wire_format: WireFormat, data: MutableMapping[str, Any], decision: Decision
    ) -> None:
        target = self._targets[decision.model_class]
        effort = wire_format.effort_parameters(target.effort) if target.effort else {}
        for name, value in {**effort, **target.parameters}.items():
            current = data.get(name)
            is_merged = isinstance(current, dict) and isinstance(value, Mapping)
            data[name] = {**current, **value} if is_merged else value  # type: ignore[dict-item]
        data["model"] = target.model
        self._open[str(data.get("litellm_call_id"))] = decision
        while len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)
