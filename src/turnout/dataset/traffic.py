"""A sample of the log as it is, stored beside a data set as the reference of its traffic.

The rows of a data set are balanced and without duplicates, so they differ from the log. This sample
holds all turns that the architecture decides on, of conversations drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import ibis
import pyarrow as pa

from turnout.dataset.drawing import DrawnTurn
from turnout.engine import batches, materialized
from turnout.records import Turn
from turnout.routing import Formatter
from turnout.routing.formatter import MAX_STORED_TURNS, stored_turn
from turnout.schema import TRAFFIC, TURN_KEYS
from turnout.turns import drawn_conversations

MOST_CONVERSATIONS = 2_000
MOST_TURNS = 6_000
# So many conversations are looked at; up to four in five of them may have training rows.
_MOST_NAMES = 20_000
# Above this share of conversations with drawn rows, the log is so short that the sample is read
# apart.
_MOST_DRAWN = 0.5
_SPARE = 1.1
_Row = dict[str, Any]


class _Read(Protocol):
    """A turn as it was read; see `drawing.DrawnTurn`."""

    @property
    def conversation_id(self) -> str: ...
    @property
    def turn_index(self) -> int: ...
    @property
    def message(self) -> str | None: ...
    @property
    def answer(self) -> str | None: ...


class _SampledTurn(NamedTuple):
    conversation_id: str
    turn_index: int
    message: str | None
    answer: str | None


class TrafficSample:
    """A sample of a log's conversations.

    Which of them are in the sample depends on the rows of the data set. As texts are most of what
    is read of a log, those that are likely to be in it are read together with the drawn turns:
    `ahead` names them, and `reading` takes their turns from what is read.

    Args:
        backend: Where the log is read.
        turns: A turns table.
        formatter: How a turn is shown.
        seed: Decides which conversations are drawn.
        conversations: `conversation_id` and `turn_count` of all, where they are known already.
    """

    def __init__(
        self,
        backend: ibis.BaseBackend,
        turns: ibis.Table,
        formatter: Formatter,
        seed: int,
        conversations: ibis.Table | None = None,
    ) -> None:
        self._backend = backend
        self._formatter = formatter
        self._first_only = formatter.architecture == "session"
        self._seed = seed
        self._conversations = conversations
        log = turns.select(
            conversation_id=turns.conversation_id.cast("string"),
            turn_index=turns.turn_index.cast("int32"),
            message=turns.user_message.cast("string"),
            answer=turns.assistant_message.cast("string"),
        )
        self._log = log.filter(log.conversation_id.notnull(), log.turn_index >= 1)
        self._drawn: list[_Row] | None = None
        self._rows_of: dict[str, list[_Row]] = {}

    def ahead(self, n_drawn_turns: int) -> list[str]:
        """The conversations to read in full with the drawn turns, unless they were read before.

        Args:
            n_drawn_turns: How many turns are drawn.
        """
        if self._conversations is None or self._rows_of:
            return []
        total = int(self._backend.to_pyarrow(self._conversations.count()).as_py())
        if n_drawn_turns > _MOST_DRAWN * total:
            return []
        untrained = (1 - n_drawn_turns / total) / _SPARE
        names: list[str] = []
        n_turns = 0
        for row in self._candidates():
            if row["turns"] <= MOST_TURNS:
                names.append(row["conversation_id"])
                n_turns += row["turns"]
            if n_turns * untrained >= MOST_TURNS or len(names) * untrained >= MOST_CONVERSATIONS:
                break
        return names

    def reading(self, turns: Iterable[DrawnTurn], ahead: Sequence[str]) -> Iterator[DrawnTurn]:
        """Pass drawn turns and those before them on, and remember some conversations.

        Args:
            turns: By conversation and index.
            ahead: Conversations of which all turns are there.
        """
        names = set(ahead)
        whole: list[DrawnTurn] = []
        for turn in turns:
            if whole and turn.conversation_id != whole[0].conversation_id:
                yield from self._needed(whole)
                whole = []
            if turn.conversation_id in names:
                whole.append(turn)
            else:
                yield turn
        if whole:
            yield from self._needed(whole)

    def _needed(self, conversation: Sequence[DrawnTurn]) -> list[DrawnTurn]:
        """Remember a conversation; the turns that would be read of it without the sample."""
        self._remember(conversation)
        drawn = [turn.turn_index for turn in conversation if turn.order_key is not None]
        if not drawn:
            return []
        first, last = min(drawn) - MAX_STORED_TURNS, max(drawn)
        return [turn for turn in conversation if first <= turn.turn_index <= last]

    def table(self, used: Mapping[str, set[str]]) -> pa.Table:
        """Rows of `schema.TRAFFIC`, conversation by conversation.

        Conversations with training rows are left out. Those of the other splits are like them, and
        replace them by a greater weight.

        Args:
            used: Split → conversations with rows in it.
        """
        weights = self._weights(used)
        if not weights.keys() <= self._rows_of.keys():
            self._read(weights)
        rows = (
            row | {"weight": weights[name]}
            for name in sorted(weights)
            for row in self._rows_of.get(name, ())
        )
        return pa.Table.from_pylist(list(rows), TRAFFIC)

    def _candidates(self) -> list[_Row]:
        """The conversations drawn at random, in their order."""
        if self._drawn is None:
            self._drawn = drawn_conversations(
                self._backend,
                self._log,
                f"{self._seed}|traffic|",
                _MOST_NAMES,
                conversations=self._conversations,
                first_only=self._first_only,
            )
        return self._drawn

    def _weights(self, used: Mapping[str, set[str]]) -> dict[str, float]:
        """Conversation of the sample → weight of its turns."""
        drawn = self._candidates()
        trained = used.get("train", set())
        others = (names for split, names in used.items() if split != "train")
        unseen = set().union(*others) - trained
        n_trained = sum(row["conversation_id"] in trained for row in drawn)
        n_unseen = sum(row["conversation_id"] in unseen for row in drawn)
        unseen_weight = (n_trained + n_unseen) / n_unseen if n_unseen else 1.0
        weights: dict[str, float] = {}
        n_turns = 0
        for row in drawn:
            name, decided = row["conversation_id"], 1 if self._first_only else row["turns"]
            if name in trained or n_turns + decided > MOST_TURNS:
                continue
            n_turns += decided
            weights[name] = unseen_weight if name in unseen else 1.0
            if len(weights) == MOST_CONVERSATIONS:
                break
        return weights

    def _read(self, conversations: Iterable[str]) -> None:
        names = pa.table({"conversation_id": pa.array(sorted(conversations), pa.string())})
        wanted = materialized(self._backend, ibis.memtable(names))
        turns_of = self._log.semi_join(wanted, "conversation_id")
        turns = (
            _SampledTurn(**row)
            for batch in batches(self._backend, turns_of, order_by=TURN_KEYS)
            for row in batch.to_pylist()
        )
        for _, conversation in groupby(turns, key=attrgetter("conversation_id")):
            self._remember(list(conversation))

    def _remember(self, conversation: Sequence[_Read]) -> None:
        """Format the turns of a conversation, each once even if the log has it twice."""
        copies = groupby(conversation, key=attrgetter("turn_index"))
        turns = [max(texts, key=_content) for _, texts in copies]
        rows = []
        for position, turn in enumerate(turns):
            if self._first_only and turn.turn_index != 1:
                break
            shown = _turns_up_to(turns, position)
            model_input = self._formatter.format(shown, turn.turn_index)
            rows.append(
                {
                    "conversation_id": turn.conversation_id,
                    "turn_index": turn.turn_index,
                    "turn_count": len(turns),
                    "message": model_input.message,
                    "context": model_input.context,
                    "previous": [asdict(stored_turn(turn)) for turn in reversed(shown[:-1])],
                }
            )
        self._rows_of[conversation[0].conversation_id] = rows


def _content(turn: _Read) -> tuple[bool, str, bool, str]:
    """A sort key of texts, null last."""
    return turn.message is None, turn.message or "", turn.answer is None, turn.answer or ""


def _turns_up_to(turns: Sequence[_Read], position: int) -> list[Turn]:
    nearest = turns[max(0, position - MAX_STORED_TURNS) : position + 1]
    return [Turn(turn.message or "", turn.answer) for turn in nearest]
