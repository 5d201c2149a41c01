"""A router as the classifier of LiteLLM's auto router; LiteLLM itself is not imported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

from turnout.integrations.litellm.decisions import decision_of, headers_of
from turnout.protocols import read_request
from turnout.protocols.parts import mapping
from turnout.records import ModelClass
from turnout.routing import Router

_LOG = logging.getLogger(__name__)
TIERS: Mapping[ModelClass, str] = {"fast": "SIMPLE", "reasoning": "REASONING"}
"""LiteLLM's own names of the tiers that the two classes stand for."""


class RoutingContext(Protocol):
    """LiteLLM's input for a classifier."""

    raw_messages: list[dict[str, object]]
    structured_messages: list[dict[str, object]]
    metadata: dict[str, object]


class Classifier:
    """Gives LiteLLM the tier of a request.

    Make one in a module beside LiteLLM's settings and name it in `classifier_plugin`.

    Args:
        router: A router, or its folder.
        tiers: Class → tier, or a tier's label.

    Raises:
        ArtifactError: If the folder is not a router.
    """

    def __init__(
        self, router: Router | str | Path, tiers: Mapping[ModelClass, str] = TIERS
    ) -> None:
        self._router = router if isinstance(router, Router) else Router.from_folder(router)
        self._tiers = dict(tiers)

    def __deepcopy__(self, memo: object) -> Self:
        """The classifier itself: LiteLLM copies its settings, and a router is shared."""
        return self

    async def classify(self, context: RoutingContext) -> str | None:
        """The tier; None leaves the choice to LiteLLM.

        A failure is logged and returns None too, so that no request fails because of it.
        """
        try:
            return await asyncio.to_thread(self._tier, context)
        except Exception:
            _LOG.exception("turnout could not classify a request; LiteLLM decides")
            return None

    def _tier(self, context: RoutingContext) -> str | None:
        metadata = mapping(context.metadata)
        messages = context.raw_messages or context.structured_messages
        body = {
            "messages": list(messages),
            "metadata": mapping(metadata.get("requester_metadata")),
        }
        decision = decision_of(
            self._router, read_request(body), headers_of(metadata), body, metadata
        )
        return None if decision is None else self._tiers.get(decision.model_class)
