"""Requests of a log → the request that each one continues, by the histories that they repeat.

Digests are compared, never texts, and the engine does it: sorted by key and time, so that a log of
any length takes little memory.
"""

from __future__ import annotations

from pathlib import Path

import ibis

from turnout.engine import materialized, read_parquet

# One request, or several that are one turn by their kind: a failed one and the one that answered,
# one that gives results of tools back.
_OF_NODE = (
    "id_key", "owner", "named", "compacted", "turns_before", "opening", "message", "before",
    "asked_before", "first_turn", "last_turn", "last_message", "goes_on_from",
)  # fmt: skip


def nodes_of(backend: ibis.BaseBackend, transcripts: Path) -> tuple[ibis.Table, ibis.Table]:
    """The requests in order of time, joined to nodes.

    A request goes with the one before it that asks the same after the same history, where it
    continues it (results of tools) or where that one failed.

    Args:
        backend: Where it is computed.
        transcripts: The file of `TRANSCRIPTS`.

    Returns:
        Every request with its `node`; and the nodes with their `parent`, null where a node
        continues no other, and their `anchor`, the node that begins their conversation where those
        between are not in the log. A node's name is the place in time of its first request.
    """
    rows = read_parquet(backend, transcripts)
    in_time = ibis.window(
        order_by=[ibis.asc("time", nulls_first=True), ibis.desc("failed"), ibis.asc("row")]
    )
    rows = rows.mutate(place=ibis.row_number().over(in_time).cast("int64"))
    same = ibis.window(group_by=("id_key", "before", "message"), order_by="place")
    up_to = ibis.window(group_by=("id_key", "before", "message"), order_by="place", rows=(None, 0))
    joins = rows.goes_on | rows.failed.lag().over(same).fill_null(False)
    is_first = ~joins | rows.place.lag().over(same).isnull()
    rows = rows.mutate(start=ibis.ifelse(is_first, rows.place, ibis.null("int64")))
    rows = materialized(backend, rows.mutate(node=rows.start.max().over(up_to)).drop("start"))
    rows = _with_calls_of_other_ids(backend, rows)
    rows = _with_failed_calls_of_other_ids(backend, rows)
    first = rows.filter(rows.node == rows.place)
    nodes = materialized(backend, first.select("node", "row", *_OF_NODE))
    return rows, _linked(backend, rows, nodes)


def _with_calls_of_other_ids(backend: ibis.BaseBackend, rows: ibis.Table) -> ibis.Table:
    """Requests that give results of tools back to a turn that another id began are calls of it."""
    orphaned = rows.goes_on & (rows.node == rows.place)
    if not backend.to_pyarrow(rows.filter(orphaned).count()).as_py():
        return rows
    before = ibis.window(group_by=("owner", "before", "message"), order_by="place", rows=(None, -1))
    begun = ibis.ifelse(orphaned, ibis.null("int64"), rows.place)
    return _adopted(backend, rows, orphaned, rows.node.argmax(begun).over(before))


def _with_failed_calls_of_other_ids(backend: ibis.BaseBackend, rows: ibis.Table) -> ibis.Table:
    """Requests that failed are calls of the turn that asks the same later, after a history.

    An id with an answer has its own turns.
    """
    failed = rows.failed & (rows.node == rows.place) & (rows.turns_before > 0)
    if not backend.to_pyarrow(rows.filter(failed).count()).as_py():
        return rows
    unanswered = rows.failed.all().over(ibis.window(group_by="id_key"))
    after = ibis.window(group_by=("owner", "before", "message"), order_by="place", rows=(1, None))
    answered = ibis.ifelse(rows.failed, ibis.null("int64"), rows.place)
    return _adopted(backend, rows, failed & unanswered, rows.node.argmin(answered).over(after))


def _adopted(
    backend: ibis.BaseBackend, rows: ibis.Table, orphaned: ibis.Value, node: ibis.Value
) -> ibis.Table:
    """The rows, those of the nodes that some orphaned rows begin with another node."""
    adopted = rows.mutate(orphaned=orphaned, parent=node)
    adopted = adopted.filter(adopted.orphaned, adopted.parent.notnull()).select("node", "parent")
    joined = rows.left_join(adopted, "node")
    joined = joined.mutate(node=ibis.coalesce(joined.parent, joined.node))
    return materialized(backend, joined.select(*rows.columns))


def _linked(backend: ibis.BaseBackend, rows: ibis.Table, nodes: ibis.Table) -> ibis.Table:
    """The nodes with their parents, by the first rule that finds one, and their anchors."""
    nodes = nodes.mutate(parent=ibis.null("int64"))
    offered = _offered(backend, rows, nodes)
    for wanted, rule in _RULES:
        if wanted in offered:
            nodes = _with_parents(backend, nodes, rule(rows, nodes))
            if not backend.to_pyarrow(_roots(nodes).count()).as_py():
                return nodes.mutate(anchor=ibis.null("int64"))
    if "first_turn" not in offered:
        return nodes.mutate(anchor=ibis.null("int64"))
    unnamed = _roots(nodes).filter(lambda node: ~node.named)
    begun = rows.filter(rows.turns_before == 0)
    anchors = _latest(begun, unnamed, "owner", "first_turn")
    joined = nodes.left_join(anchors, nodes.node == anchors.child)
    return materialized(backend, joined.select(*nodes.columns, anchor=joined.predecessor))


def _offered(backend: ibis.BaseBackend, rows: ibis.Table, nodes: ibis.Table) -> set[str]:
    """The kinds of digest that some request offers; a rule by another kind would match nothing."""
    asks = {wanted: nodes[wanted].isin(rows[offered]).any() for wanted, offered in _OFFERS.items()}
    (is_offered_by_name,) = backend.to_pyarrow(nodes.agg(**asks)).to_pylist()
    return {wanted for wanted, is_offered in is_offered_by_name.items() if is_offered}


def _by_id_of_answer(rows: ibis.Table, nodes: ibis.Table) -> ibis.Table:
    """Link by the answer's own id, which is surer than any history."""
    return _latest(rows, nodes, "owner", "goes_on_from")


def _by_same_history(rows: ibis.Table, nodes: ibis.Table) -> ibis.Table:
    return _in_turn(rows, _roots(nodes), "id_key", "before")


def _by_latest_same_history(rows: ibis.Table, nodes: ibis.Table) -> ibis.Table:
    return _latest(rows, _roots(nodes), "id_key", "before")


def _by_history_of_another_id(rows: ibis.Table, nodes: ibis.Table) -> ibis.Table:
    return _in_turn(_ends(rows, nodes), _roots(nodes), "owner", "before")


def _by_messages(rows: ibis.Table, nodes: ibis.Table) -> ibis.Table:
    """Link by messages alone: for answers that the client changed, or that the log lacks."""
    named = rows.filter(rows.named)
    return _latest(named, _roots(nodes), "id_key", "asked_before")


def _by_messages_of_another_id(rows: ibis.Table, nodes: ibis.Table) -> ibis.Table:
    ends = _ends(rows, nodes).filter(lambda end: ~end.named)
    return _latest(ends, _roots(nodes), "owner", "asked_before")


def _by_last_message(rows: ibis.Table, nodes: ibis.Table) -> ibis.Table:
    """Link by the last message: for histories whose beginning the client left out."""
    named = rows.filter(rows.named)
    return _latest(named, _roots(nodes), "id_key", "last_message")


def _by_last_turn_of_another_id(rows: ibis.Table, nodes: ibis.Table) -> ibis.Table:
    return _latest(_ends(rows, nodes), _roots(nodes), "owner", "last_turn")


def _roots(nodes: ibis.Table) -> ibis.Table:
    """Nodes that repeat a history and continue no request yet."""
    return nodes.filter(nodes.parent.isnull(), nodes.turns_before > 0)


def _ends(rows: ibis.Table, nodes: ibis.Table) -> ibis.Table:
    """Requests of nodes that none continues yet."""
    continued = nodes.filter(nodes.parent.notnull()).select(node="parent").distinct()
    return rows.anti_join(continued, "node")


def _in_turn(rows: ibis.Table, nodes: ibis.Table, owner: str, wanted: str) -> ibis.Table:
    """Of equal histories the first request continues the first one that has it, and so on.

    So conversations that begin alike stay as many as they are. A further request continues the last
    one: that was edited or answered again.
    """
    offered = _OFFERS[wanted]
    offers = rows.filter(rows[offered].notnull())
    offers = offers.group_by(owner=offers[owner], key=offers[offered], node=offers.node).agg(
        since=offers.place.min()
    )
    offers = offers.mutate(
        rank=ibis.row_number().over(ibis.window(group_by=("owner", "key"), order_by="node"))
    )
    counts = offers.group_by("owner", "key").agg(last=offers["rank"].max())
    wants = nodes.filter(nodes.turns_before > 0)
    wants = wants.select(child="node", owner=wants[owner], key=wants[wanted])
    order = ibis.window(group_by=("owner", "key"), order_by="child")
    wants = wants.mutate(number=ibis.row_number().over(order)).join(counts, ("owner", "key"))
    wants = wants.mutate(rank=ibis.least(wants.number, wants["last"])).drop("number", "last")
    pairs = wants.join(offers, ("owner", "key", "rank"))
    pairs = pairs.filter(pairs.node < pairs.child)
    return pairs.select("child", predecessor=pairs.node)


def _latest(rows: ibis.Table, nodes: ibis.Table, owner: str, wanted: str) -> ibis.Table:
    """Each node continues the latest request before it that has its history."""
    offered = _OFFERS[wanted]
    offers = rows.filter(rows[offered].notnull())
    offers = offers.select(
        owner=offers[owner], key=offers[offered], place="place", child=ibis.null("int64"),
        predecessor="node",
    )  # fmt: skip
    wants = nodes.filter(nodes[wanted].notnull())
    wants = wants.select(
        owner=wants[owner], key=wants[wanted], place="node", child="node",
        predecessor=ibis.null("int64"),
    )  # fmt: skip
    both = ibis.union(offers, wants)
    before = ibis.window(group_by=("owner", "key"), order_by="place", rows=(None, -1))
    both = both.mutate(latest=both.predecessor.max().over(before))
    both = both.filter(both.child.notnull(), both.latest.notnull())
    return both.select("child", predecessor=both.latest)


def _with_parents(backend: ibis.BaseBackend, nodes: ibis.Table, links: ibis.Table) -> ibis.Table:
    latest = links.group_by("child").agg(predecessor=links.predecessor.max())
    joined = nodes.left_join(latest, nodes.node == latest.child)
    joined = joined.mutate(parent=ibis.coalesce(joined.parent, joined.predecessor))
    return materialized(backend, joined.select(*nodes.columns))


# A digest of a node → that of the requests that the node may continue.
_OFFERS = {
    "goes_on_from": "answered_as",
    "before": "after",
    "asked_before": "asked_after",
    "last_message": "message",
    "last_turn": "own_turn",
    "first_turn": "own_turn",
}
# From the surest on; what one id says goes before what other ids say.
_RULES = (
    ("goes_on_from", _by_id_of_answer),
    ("before", _by_same_history),
    ("before", _by_latest_same_history),
    ("before", _by_history_of_another_id),
    ("asked_before", _by_messages),
    ("asked_before", _by_messages_of_another_id),
    ("last_message", _by_last_message),
    ("last_turn", _by_last_turn_of_another_id),
)
