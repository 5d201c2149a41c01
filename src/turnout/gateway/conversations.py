"""Which conversation a request belongs to, and which of its turns it is.

Ids that clients send decide where there are any. Without one the transcript does: a request whose
history is a known transcript with its answer is that conversation's next turn.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from turnout.protocols import Answer, Boundary, Message, RequestKind
from turnout.protocols.parts import pieces
from turnout.records import ModelClass
from turnout.routing.sessions import CachedPrompt, Session, SessionStore, TranscriptEnd

_DIGITS = 8  # of an exchange's digest
_MAX_EXCHANGES = 32
_LONG_CHARS = 1 << 16
# Unique, not secret: an id counts only together with its caller.
_IDS = random.Random(secrets.randbits(256))  # noqa: S311
# Requests that go on from a transcript; the others only look at it.
_CONTINUING: frozenset[RequestKind] = frozenset({"turn", "continuation", "sub-agent"})


def digest(*parts: str) -> str:
    """A digest of texts in order; no two lists of texts share one."""
    framed = "".join([f"{len(part)}:{part}" for part in parts])
    return hashlib.blake2b(framed.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class _Block:
    """What one side said before the other side answered."""

    is_assistant: bool
    digest: str


def _block(is_assistant: bool, messages: Iterable[Message]) -> _Block:
    # Clients give answers back with other white space than they came with, and in other parts.
    listed = list(messages)
    text = "".join(_reduced(message.text) for message in listed)
    others = [part for message in listed for part in (*message.tools, *message.attachments)]
    return _Block(is_assistant, digest(text, *others))


def _reduced(text: str) -> str:
    """A text without white space; of a long one a digest."""
    if len(text) <= _LONG_CHARS:
        return "".join(text.split())
    hashed = hashlib.blake2b(digest_size=16)
    for piece in pieces(text):
        hashed.update("".join(piece.split()).encode("utf-8", "surrogatepass"))
    return hashed.hexdigest()


class Transcript:
    """The digests of a request's messages.

    System messages are left out: products put the time into them.

    Args:
        messages: The request's.
        scope: Of whom it is; the same words of another caller have other digests.
    """

    def __init__(self, messages: Sequence[Message], scope: str) -> None:
        said = [m for m in messages if m.role != "system"]
        self._said = said
        self._scope = scope
        self._blocks = [
            _block(side, group) for side, group in groupby(said, lambda m: m.role == "assistant")
        ]
        self._chain = [digest("transcript", scope)]
        for block in self._blocks:
            self._chain.append(digest(self._chain[-1], str(block.is_assistant), block.digest))
        self.n_human = _n_human_turns(said)
        last_answer = max((n for n, m in enumerate(said) if m.role == "assistant"), default=-1)
        self.n_open = _n_human_turns(said[last_answer + 1 :])

    def parts(self) -> tuple[Sequence[object], ...]:
        """The collections of which each has an entry a message."""
        return self._said, self._blocks, self._chain

    @property
    def _n_history(self) -> int:
        """Blocks up to and with the last answer."""
        return max((n + 1 for n, block in enumerate(self._blocks) if block.is_assistant), default=0)

    @property
    def has_history(self) -> bool:
        """Whether an answer is among the messages."""
        return self._n_history > 0

    @property
    def has_human_history(self) -> bool:
        """Whether a person said something before the last answer."""
        last = max((n for n, m in enumerate(self._said) if m.role == "assistant"), default=0)
        return any(message.is_human for message in self._said[:last])

    @property
    def history_key(self) -> str:
        """Digest of everything up to and with the last answer."""
        return self._chain[self._n_history]

    @property
    def prefill(self) -> list[Message]:
        """The beginning of the answer, where the request gives one."""
        n_other = len(self._said)
        while n_other and self._said[n_other - 1].role == "assistant":
            n_other -= 1
        return self._said[n_other:]

    def without_prefill(self) -> Transcript:
        """The transcript of what is answered."""
        return Transcript(self._said[: len(self._said) - len(self.prefill)], self._scope)

    @property
    def key(self) -> str:
        """Digest of the whole request."""
        return self._chain[-1]

    @property
    def human_key(self) -> str:
        """Digest of what a person said before the last answer."""
        return digest("human", self._scope, *self._human(self._n_history))

    @property
    def answered_human_key(self) -> str:
        """What `human_key` of the next request will be."""
        return digest("human", self._scope, *self._human(len(self._blocks)))

    def _human(self, n_blocks: int) -> list[str]:
        return [block.digest for block in self._blocks[:n_blocks] if not block.is_assistant]

    def answered_keys(self, answer: Answer) -> tuple[str, str]:
        """What `history_key` of the next request will be, and the exchange that is complete."""
        # What the answer was given as a beginning becomes one with it.
        prefill = self.prefill
        block = _block(True, [*prefill, Message("assistant", answer.text, tools=answer.tools)])
        blocks = self._blocks[:-1] if prefill else self._blocks
        request = blocks[-1].digest if blocks else ""
        return digest(self._chain[len(blocks)], "True", block.digest), _exchange(
            request, block.digest
        )

    @property
    def exchanges(self) -> list[str]:
        """Short digests of each answer with what it answers, oldest first."""
        blocks = self._blocks[: self._n_history]
        return [
            _exchange(blocks[n - 1].digest if n else "", block.digest)
            for n, block in enumerate(blocks)
            if block.is_assistant
        ]

    def exchange_key(self, exchange: str) -> str:
        """Under which an exchange is linked."""
        return digest("exchange", self._scope, exchange)


def _exchange(request: str, answer: str) -> str:
    return digest(request, answer)[:_DIGITS]


def _n_human_turns(messages: Sequence[Message]) -> int:
    """How many turns a person has begun; after an interruption the next words are another one."""
    n_turns, is_answering = 0, True
    for message in messages:
        is_answering |= message.role != "user" or message.ends_turn
        if message.is_human:
            n_turns += is_answering
            is_answering = False
    return n_turns


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells conversations apart, of one request.

    Attributes:
        scope: Digest of the caller.
        given_id: The id that the client sent; None where it sent none.
        given_by: Which header or field it was in.
        user: The end user, where the request names one.
        kind: What the request is.
        turn_key: The client's own id of the turn; None where it gives none.
        boundary: What the client says about its context.
        previous_response_id: The response that it goes on from.
        parent_id: The conversation that a sub-agent works for.
    """

    scope: str
    given_id: str | None
    given_by: str
    user: str
    kind: RequestKind
    turn_key: str | None = None
    boundary: Boundary = field(default_factory=Boundary)
    previous_response_id: str | None = None
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request stands.

    Attributes:
        conversation_id: As the store knows it.
        shown_id: As the client knows it.
        identified_by: What named the conversation.
        turn_index: 1-based.
        session: What is known of it; None at its first turn.
        transcript: The request's.
        kind: What the request is.
        end: Where the transcript ended before; None where it is not known.
        turn_key: What tells this turn from others of the conversation.
        is_repeat: Whether the last turn is asked again.
        compacted: Whether the history was compacted since the turn before.
    """

    conversation_id: str
    shown_id: str
    identified_by: str
    turn_index: int
    session: Session | None
    transcript: Transcript
    kind: RequestKind
    end: TranscriptEnd | None
    turn_key: str
    is_repeat: bool = False
    compacted: bool = False


class Conversations:
    """Finds and remembers conversations.

    Args:
        store: Where they are remembered.
        new_id: Names a conversation that no client named.
    """

    def __init__(
        self,
        store: SessionStore,
        new_id: Callable[[], str] = lambda: f"{_IDS.getrandbits(96):024x}",
    ) -> None:
        self.store = store
        self._new_id = new_id

    def place(
        self, identity: Identity, messages: Sequence[Message], *, remember: bool = True
    ) -> Place:
        """Where a request belongs.

        Args:
            identity: What tells its conversation apart.
            messages: What is asked.
            remember: False changes nothing: the transcript may still be continued by others.
        """
        transcript = Transcript(messages, digest(identity.scope, identity.user))
        claims = remember and identity.kind in _CONTINUING
        if identity.given_id is not None:
            shown_id, by = identity.given_id, identity.given_by
            end = self._end_within(transcript, _scoped(shown_id, identity.scope))
        else:
            end, by = self._end(identity, transcript, claims=claims)
            shown_id = end.conversation_id.rpartition(".")[0] if end else self._new_id()
        return self._placed(
            _scoped(shown_id, identity.scope), shown_id, by, transcript, identity, end
        )

    def again(self, place: Place, identity: Identity) -> Place:
        """The same place after another request of the conversation came first."""
        return self._placed(
            place.conversation_id, place.shown_id, place.identified_by, place.transcript, identity,
            place.end,
        )  # fmt: skip

    def parent_class(self, identity: Identity) -> ModelClass | None:
        """The class of the conversation that a sub-agent works for."""
        if identity.parent_id is None:
            return None
        parent = self.store.get(_scoped(identity.parent_id, identity.scope))
        return parent.model_class if parent else None

    def answered(
        self,
        place: Place,
        answer: Answer,
        cached: CachedPrompt | None,
        model_class: ModelClass | None,
        target: str,
        cost_usd: float = 0.0,
        switching_usd: float = 0.0,
    ) -> None:
        """Remember an answer, so that the next turn finds its conversation.

        Args:
            place: Of the request.
            answer: What was answered.
            cached: What the prompt cache of the model holds now.
            model_class: The class that served; None for a model that has none.
            target: Name of the target that served.
            cost_usd: What it cost; 0 where that is not known.
            switching_usd: Of it, what the switch to this class cost.
        """
        transcript, conversation_id = place.transcript, place.conversation_id
        key, exchange = transcript.answered_keys(answer)
        self.store.link(key, conversation_id, place.turn_index)
        if place.identified_by == "transcript":
            self.store.link(transcript.exchange_key(exchange), conversation_id, place.turn_index)
            self.store.link(transcript.answered_human_key, conversation_id, place.turn_index)
        if answer.response_id:
            self.store.link(
                _response_key(place, answer.response_id), conversation_id, place.turn_index
            )
        while session := self.store.get(conversation_id):
            after = session
            if model_class is not None:
                after = session.with_served(
                    model_class, cached, cost_usd=cost_usd, switching_usd=switching_usd
                )
            after = replace(
                after,
                answered=True,
                exchanges=(session.exchanges + exchange)[-_DIGITS * _MAX_EXCHANGES :],
                target=target,
                version=session.version + 1,
            )
            if self.store.replace(session, after):
                return

    def unanswered(self, place: Place) -> None:
        """Note that a request failed: repeated, it is the same turn of the same conversation."""
        if (
            place.identified_by == "transcript"
            and place.kind in _CONTINUING
            and not place.transcript.has_history
        ):
            self.store.link(place.transcript.key, place.conversation_id, place.turn_index)

    def _end(
        self, identity: Identity, transcript: Transcript, *, claims: bool
    ) -> tuple[TranscriptEnd | None, str]:
        if identity.previous_response_id:
            ends = self.store.ends(_response_key_of(identity.scope, identity.previous_response_id))
            if ends:
                return ends[0], "previous_response_id"
        if not transcript.has_history:
            end = self.store.claim(transcript.key) if claims else None
            # Where who failed has asked again, this is somebody else with the same words.
            return (None if end is None or end.continued else end), "transcript"
        key = transcript.history_key
        end = self.store.claim(key) if claims else next(iter(self.store.ends(key)), None)
        end = end or self._reworded(transcript) or self._shortened(transcript)
        if end is None and transcript.prefill:
            return self._end(identity, transcript.without_prefill(), claims=claims)
        return end, "transcript"

    def _reworded(self, transcript: Transcript) -> TranscriptEnd | None:
        """The conversation whose answers the client gives back in other words.

        Only one that nobody has continued: else a stranger who asks the same would take it over.
        Requests in which nobody says anything would all be one conversation.
        """
        if not transcript.has_human_history:
            return None
        for end in self.store.ends(transcript.human_key):
            session = self.store.get(end.conversation_id)
            if session is not None and session.answered and session.turn_index == end.turn_index:
                return end
        return None

    def _shortened(self, transcript: Transcript) -> TranscriptEnd | None:
        """The conversation of which these are the last exchanges, perhaps after a summary."""
        shown = transcript.exchanges
        matches = []
        for end in self.store.ends(transcript.exchange_key(shown[-1])):
            session = self.store.get(end.conversation_id)
            if session is not None and (n_alike := _n_alike(shown, session.exchanges)):
                matches.append((n_alike, end))
        matches.sort(key=lambda match: match[0], reverse=True)
        if not matches or (len(matches) > 1 and matches[0][0] == matches[1][0]):
            return None
        return matches[0][1]

    def _end_within(self, transcript: Transcript, conversation_id: str) -> TranscriptEnd | None:
        """Where in a conversation a transcript ends; None where that is not known."""
        if not transcript.has_history:
            return None
        ends = self.store.ends(transcript.history_key)
        return next((end for end in ends if end.conversation_id == conversation_id), None)

    def _placed(
        self,
        conversation_id: str,
        shown_id: str,
        by: str,
        transcript: Transcript,
        identity: Identity,
        end: TranscriptEnd | None,
    ) -> Place:
        session = self.store.get(conversation_id)
        turn_key = identity.turn_key or transcript.key
        repeats = session is not None and _repeats(session, turn_key, transcript, identity.kind)
        return Place(
            conversation_id,
            shown_id,
            by,
            _turn_index(session, transcript, identity.kind, end, repeats=repeats),
            session,
            transcript,
            identity.kind,
            end,
            turn_key,
            repeats,
            compacted=session is not None and _is_compacted(session, identity.boundary, end),
        )


def _scoped(shown_id: str, scope: str) -> str:
    """Two callers may use the same id."""
    return f"{shown_id}.{scope[:_DIGITS]}"


def _response_key(place: Place, response_id: str) -> str:
    return digest("response", place.conversation_id.rpartition(".")[2], response_id)


def _response_key_of(scope: str, response_id: str) -> str:
    return digest("response", scope[:_DIGITS], response_id)


def _is_compacted(session: Session, boundary: Boundary, end: TranscriptEnd | None) -> bool:
    """Whether the history was replaced by a summary since the turn before."""
    if boundary.window is not None and session.window is not None:
        return boundary.window > session.window
    return boundary.is_compacted and end is None


def _repeats(session: Session, turn_key: str, transcript: Transcript, kind: RequestKind) -> bool:
    if kind != "turn" or session.turn_key != turn_key:
        return False
    # A client that sends the newest message alone may well send the same one twice.
    sends_newest_only = session.turn_index > 1 and not transcript.has_history
    return not (session.answered and sends_newest_only)


def _turn_index(
    session: Session | None,
    transcript: Transcript,
    kind: RequestKind,
    end: TranscriptEnd | None,
    *,
    repeats: bool,
) -> int:
    if session is None:
        return max(1, transcript.n_human)
    if repeats or kind != "turn":
        return session.turn_index
    if end is not None and transcript.has_history:
        return end.turn_index + max(1, transcript.n_open)
    return session.turn_index + 1


def _n_alike(shown: Sequence[str], known: str) -> int:
    """How many of the last exchanges agree; 0 where what is shown does not fit.

    All that is shown must be known, but for the first exchange: it may be a summary.
    """
    stored = [known[start : start + _DIGITS] for start in range(0, len(known), _DIGITS)]
    n = 0
    for sent, remembered in zip(reversed(shown), reversed(stored), strict=False):
        if sent != remembered:
            break
        n += 1
    fits = n == len(shown) or (n == len(shown) - 1 and n > 0)
    return n if fits and len(shown) <= len(stored) + 1 else 0
