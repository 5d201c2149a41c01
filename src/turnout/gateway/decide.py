"""Where a request goes: by its model's name, by the rule of its kind, or by the router."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from turnout.errors import SettingsError
from turnout.gateway.conversations import Conversations, Place
from turnout.gateway.incoming import LARGE_BYTES
from turnout.gateway.options import GatewayOptions, Target
from turnout.gateway.parsed_request import ParsedRequest
from turnout.gateway.problems import Problem, bad_request
from turnout.protocols import RequestKind
from turnout.records import OTHER_CLASS, Decision, ModelClass
from turnout.routing import Router
from turnout.routing.policies import Lock, Policy
from turnout.routing.served import ChosenBy
from turnout.routing.sessions import Session

AUTO = "auto"
_UNIFORM = random.SystemRandom().random
# Helper calls that carry a prompt of their own: no cache is lost where they go to fast.
_ALWAYS_FAST: frozenset[RequestKind] = frozenset(
    {"title", "tags", "follow-ups", "permission check", "query", "autocompletion", "auxiliary"}
)
# Requests after which the conversation is known.
_REMEMBERED: frozenset[RequestKind] = frozenset({"turn", "continuation", "sub-agent"})


@dataclass(frozen=True, slots=True)
class Decided:
    """Where a request goes, and why.

    Attributes:
        place: Its conversation.
        model_class: The class that serves; None for a model that has none.
        candidates: Targets in the order in which they are tried.
        chosen_by: Who chose.
        policy: What decided: a policy, `asked`, the rule of a kind, or `shadow`.
        reason: One sentence.
        decision: The router's; None where it did not decide.
        decided_class: What the router decided; None where it did not decide.
        propensity: Probability with which the served class was chosen; None where not by the
            router.
        keeps_caller_effort: Whether the caller's own reasoning effort stands.
        decision_ms: Time that it took.
    """

    place: Place
    model_class: ModelClass | None
    candidates: tuple[Target, ...]
    chosen_by: ChosenBy
    policy: str
    reason: str
    decision: Decision | None = None
    decided_class: ModelClass | None = None
    propensity: float | None = None
    keeps_caller_effort: bool = False
    decision_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class _Named:
    """A model that was asked for by name."""

    targets: tuple[Target, ...]
    model_class: ModelClass | None


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A class, before targets are known."""

    model_class: ModelClass
    chosen_by: ChosenBy
    policy: str
    reason: str
    decision: Decision | None = None
    propensity: float | None = None


class Decider:
    """Decides requests.

    Args:
        router: Scores and holds the policy.
        options: Where classes go.
        conversations: What is remembered.
        uniform: Draws from [0, 1), for exploration.
        now_s: Unix time.
    """

    def __init__(
        self,
        router: Router,
        options: GatewayOptions,
        conversations: Conversations,
        uniform: Callable[[], float] = _UNIFORM,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._router = router
        self._options = options
        self._conversations = conversations
        self._uniform = uniform
        self._now_s = now_s

    def may_wait(self, parsed: ParsedRequest) -> bool:
        """Whether deciding takes longer than an event loop should be held."""
        return (
            self._conversations.store.blocking
            or (parsed.kind == "turn" and (self._options.shadow or self._is_routed(parsed)))
            or len(parsed.body.text) > LARGE_BYTES
        )

    def decide(self, parsed: ParsedRequest, *, remember: bool = True) -> Decided:
        """Where a request goes.

        Args:
            parsed: The request.
            remember: Whether the conversation may know of it afterwards.

        Raises:
            Problem: If no such model is served.
        """
        began_s = time.perf_counter()
        named = None if self._is_routed(parsed) else self._named(parsed)
        place = self._conversations.place(
            parsed.identity, parsed.request.messages, remember=remember
        )
        while True:
            chosen = self._chosen(parsed, place, named)
            if not remember or self._remembered(parsed, place, named, chosen):
                break
            # Another request of the conversation came first: its decision counts.
            place = self._conversations.again(place, parsed.identity)
        decided = self._decided(parsed, place, named, chosen)
        return replace(decided, decision_ms=1000 * (time.perf_counter() - began_s))

    def _is_routed(self, parsed: ParsedRequest) -> bool:
        model = parsed.request.model
        own = self._options.model_name
        return model in (None, own, AUTO, alias_of(own))

    def _named(self, parsed: ParsedRequest) -> _Named:
        """What the caller asked for by name.

        Raises:
            Problem: If it is not served.
        """
        model = parsed.request.model or ""
        by_class = {
            model_class: tuple(t for t in self._options.targets_of(model_class) if t.model == model)
            for model_class in self._options.targets
        }
        classes = [model_class for model_class, targets in by_class.items() if targets]
        if len(classes) > 1:
            # One model on both: the effort that the caller asks for tells them apart.
            effort = parsed.request.effort
            classes.sort(key=lambda c: effort_of(by_class[c][0], parsed) != effort)
        if classes:
            return _Named(by_class[classes[0]], classes[0])
        listed = self._options.models.get(model)
        if listed is not None:
            return _Named((Target(upstream=listed.upstream, model=listed.model or model),), None)
        if self._options.passthrough:
            return _Named((Target(upstream=self._passthrough_upstream(parsed), model=model),), None)
        raise unknown_model(model, self._options)

    def _passthrough_upstream(self, parsed: ParsedRequest) -> str:
        for name, upstream in self._options.upstreams.items():
            if parsed.wire_format.NAME in upstream.protocols:
                return name
        return next(iter(self._options.upstreams))

    def _chosen(self, parsed: ParsedRequest, place: Place, named: _Named | None) -> _Chosen | None:
        """The class; None for a model that has none, outside shadow mode."""
        if named is not None and not self._options.shadow:
            return _by_name(parsed, named)
        ruled = self._by_rule(parsed, place)
        if ruled is not None:
            return ruled
        turns = parsed.turns()
        session = place.session
        if not turns:
            if session is not None:
                return _Chosen(session.model_class, "router", "rule", "no text: the class stays")
            return _Chosen(
                self._options.default_class, "product", "rule",
                "no text that the router reads: the default class",
            )  # fmt: skip
        return self._scored(parsed, place, named)

    def _by_rule(self, parsed: ParsedRequest, place: Place) -> _Chosen | None:
        """The class of a request that is no human turn."""
        kind, session = parsed.kind, place.session
        if kind == "turn":
            return None
        if kind in _ALWAYS_FAST and not parsed.is_system_alone:
            return _Chosen("fast", "product", "rule", f"{kind}: a helper call goes to fast")
        if session is not None:
            return _Chosen(
                session.model_class, "router" if session.chosen_by == "router" else "person",
                "rule", f"{kind}: stays on the conversation's class",
            )  # fmt: skip
        parent = self._conversations.parent_class(parsed.identity)
        if parent is not None:
            return _Chosen(parent, "router", "rule", f"{kind}: the class of its conversation")
        return _Chosen(self._options.default_class, "product", "rule", f"{kind}: the default class")

    def _scored(self, parsed: ParsedRequest, place: Place, named: _Named | None) -> _Chosen:
        session = place.session
        if session is not None and place.is_repeat and named is None:
            return _Chosen(
                session.model_class, "router", self._router.policy.name,
                "the same turn again: its decision stays",
            )  # fmt: skip
        decision = self._router.choose(
            self._router.scored(parsed.turns(), self._threshold(parsed)),
            session,
            now_s=self._now_s(),
            turn_index=place.turn_index,
            locks=_locks(parsed, session),
            compacted=place.compacted,
            prompt_tokens=len(parsed.body.text) // 4,
            conversation_id=place.shown_id,
            policy=self._policy(parsed),
        )
        served, propensity = self._explored(decision)
        reason = decision.reason
        if served != decision.model_class:
            reason = f"exploration: sent to the other class; {reason}"
        by: ChosenBy = "person" if decision.lock == "person" else "router"
        return _Chosen(served, by, decision.policy, reason, decision, propensity)

    def _explored(self, decision: Decision) -> tuple[ModelClass, float]:
        """The class that serves, and the probability with which it does."""
        share = self._options.exploration_share
        if not share or decision.p_reasoning is None or decision.lock:
            return decision.model_class, 1.0
        if self._uniform() < share:
            return OTHER_CLASS[decision.model_class], share
        return decision.model_class, 1.0 - share

    def _remembered(
        self, parsed: ParsedRequest, place: Place, named: _Named | None, chosen: _Chosen | None
    ) -> bool:
        """Store what was chosen; False where another request changed the session meanwhile."""
        if parsed.kind not in _REMEMBERED or chosen is None:
            return True
        session = place.session
        after = _session_after(parsed, place, chosen, self._now_s())
        return self._conversations.store.replace(session, after)

    def _decided(
        self, parsed: ParsedRequest, place: Place, named: _Named | None, chosen: _Chosen | None
    ) -> Decided:
        decision = chosen.decision if chosen else None
        decided_class = decision.model_class if decision else None
        if named is not None:
            by: ChosenBy = "person" if parsed.kind == "turn" else "product"
            return Decided(
                place, named.model_class, self._speaking(parsed, named.targets), by, "asked",
                "asked for by name", decision, decided_class, keeps_caller_effort=True,
            )  # fmt: skip
        if chosen is None:
            raise RuntimeError("a routed request has a class")
        served = self._options.default_class if self._options.shadow else chosen.model_class
        by = "product" if self._options.shadow else chosen.chosen_by
        return Decided(
            place,
            served,
            self._candidates(parsed, served, place.session),
            by,
            "shadow" if self._options.shadow else chosen.policy,
            f"shadow mode; {chosen.reason}" if self._options.shadow else chosen.reason,
            decision,
            decided_class or chosen.model_class,
            None if self._options.shadow else chosen.propensity,
        )

    def _candidates(
        self, parsed: ParsedRequest, model_class: ModelClass, session: Session | None
    ) -> tuple[Target, ...]:
        """Targets of the class, then those of the other one."""
        own = self._speaking(parsed, self._options.targets_of(model_class))
        if parsed.is_stored_upstream:
            served = session.target if session is not None else None
            before = [t for _, t in self._options.all_targets() if t.name == served]
            return (*before, *own)[:1]
        other = self._options.targets_of(OTHER_CLASS[model_class])
        return own + tuple(t for t in other if self._speaks(parsed, t) and t not in own)

    def _speaking(self, parsed: ParsedRequest, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        speaking = tuple(target for target in targets if self._speaks(parsed, target))
        if not speaking:
            raise Problem(
                404,
                "not_found",
                f"no upstream of {', '.join(t.model for t in targets)} speaks "
                f"{parsed.wire_format.NAME}; see protocols of [upstreams] in the settings.",
            )
        return speaking

    def _speaks(self, parsed: ParsedRequest, target: Target) -> bool:
        return parsed.wire_format.NAME in self._options.upstreams[target.upstream].protocols

    def _threshold(self, parsed: ParsedRequest) -> float | None:
        given = self._override(parsed, "x-turnout-threshold")
        if given is None:
            return None
        try:
            value = float(given)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise bad_request(f"x-turnout-threshold: found {given!a}; expected 0 to 1.")
        return value

    def _policy(self, parsed: ParsedRequest) -> Policy | None:
        given = self._override(parsed, "x-turnout-policy")
        if given is None:
            return None
        try:
            return self._router.policy_named(given)
        except SettingsError as error:
            raise bad_request(f"x-turnout-{error}") from error

    def _override(self, parsed: ParsedRequest, header: str) -> str | None:
        given = parsed.headers.get(header)
        if given is not None and not self._options.request_overrides:
            raise bad_request(
                f"{header}: not followed here; expected gateway.request_overrides = true in the "
                "settings. Leave the header out."
            )
        return given


def alias_of(model_name: str) -> str:
    """The routed model's name for clients that list only names with `claude` in them."""
    return f"claude-{model_name}"


def unknown_model(model: str, options: GatewayOptions) -> Problem:
    """That a model is not served, and which are."""
    targets = [target.model for _, target in options.all_targets()]
    known = ", ".join(dict.fromkeys([*targets, *options.models]))
    return Problem(
        404,
        "model_not_found",
        f"model: found {model[:200]!r}; expected {options.model_name} to have the message routed, "
        f"or one of {known}.",
    )


def effort_of(target: Target, parsed: ParsedRequest) -> str | None:
    """The reasoning effort that a target sets, in the words of the request's protocol."""
    if target.effort or not target.parameters:
        return target.effort
    return parsed.wire_format.read_request(target.parameters).effort


def _by_name(parsed: ParsedRequest, named: _Named) -> _Chosen | None:
    if named.model_class is None:
        return None
    by: ChosenBy = "person" if parsed.kind == "turn" else "product"
    return _Chosen(named.model_class, by, "asked", "asked for by name")


def _locks(parsed: ParsedRequest, session: Session | None) -> tuple[Lock, ...]:
    if session is None:
        return ()
    locks: list[Lock] = []
    if parsed.is_stored_upstream:
        locks.append("stored_chain")
    if session.chosen_by == "person":
        locks.append("person")
    return tuple(locks)


def _session_after(parsed: ParsedRequest, place: Place, chosen: _Chosen, now_s: float) -> Session:
    """The session once a class was chosen."""
    session, chosen_class = place.session, chosen.model_class
    is_turn = parsed.kind == "turn"
    by: Literal["router", "person"] = (
        "person" if is_turn and chosen.chosen_by == "person" else "router"
    )
    window = parsed.call.boundary.window
    if session is None:
        begun = Session.begun(place.conversation_id, chosen_class, place.turn_index, now_s)
        turn_key = place.turn_key if is_turn else ""
        return replace(begun, chosen_by=by, turn_key=turn_key, window=window)
    return replace(
        session.with_choice(chosen_class, place.turn_index, now_s),
        chosen_by="person" if session.chosen_by == "person" else by,
        turn_key=place.turn_key if is_turn else session.turn_key,
        answered=session.answered and (place.is_repeat or not is_turn),
        window=window,
    )
