"""Finds the conversation and turn of each request of a log, by the histories that they repeat.

The log's own ids hold where the histories do not contradict them: one id may name many chats, a
chat may have an id for each request, or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from turnout.logs.request_links import nodes_of

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_NONE = -1


def placed_requests(backend: ibis.BaseBackend, transcripts: Path) -> ibis.Table:
    """Every request with its place.

    Args:
        backend: Where requests are compared.
        transcripts: The file of `TRANSCRIPTS`.

    Returns:
        `row`, `of_row` (the first request of its conversation), `place` (its turn index),
        `other_branch` (whether the person ended on another one), `continued` (whether a later
        request repeats its answer) and `asks_anew` (whether it gives no results of tools back, in a
        conversation that an id or a history makes sure).
    """
    requests, nodes = nodes_of(backend, transcripts)
    places = _Forest(backend.to_pyarrow(nodes.order_by("node"))).places()
    is_sure = requests.named | (requests.turns_before > 0)
    requests = requests.select("row", "node", asks_anew=is_sure & ~requests.goes_on)
    return requests.join(ibis.memtable(places), "node").drop("node")


class _Forest:
    """Nodes in order of time, each linked to the node that it continues.

    Args:
        nodes: As `nodes_of` gives them, in order.
    """

    def __init__(self, nodes: pa.Table) -> None:
        self._node, self._row = _numbers(nodes, "node"), _numbers(nodes, "row")
        self._id_key, self._named = _numbers(nodes, "id_key"), _flags(nodes, "named")
        self._compacted = _flags(nodes, "compacted")
        self._turns_before = _numbers(nodes, "turns_before")
        self._opening, self._message = _numbers(nodes, "opening"), _numbers(nodes, "message")
        self._parent = self._positions(nodes, "parent")
        # The root of the tree whose conversation a tree belongs to.
        anchor = self._positions(nodes, "anchor")
        self._home = np.where(anchor == _NONE, np.arange(len(anchor)), anchor)
        first_turn = _numbers(nodes, "first_turn")
        late = ~self._named & (self._turns_before > 0) & (anchor == _NONE)
        for roots in self._roots_alike(first_turn, late):
            self._home[roots[1:]] = roots[0]
        self._join_named()

    def places(self) -> pa.Table:
        """One row a node; see `placed_requests`."""
        root, depth = self._roots_and_depths()
        home = _ends_of(self._home)
        on_path, is_call = self._path_of_last(root)
        continued = np.zeros(len(root), bool)
        continued[self._parent[on_path & (self._parent != _NONE)]] = True
        return pa.table(
            {
                "node": self._node,
                "of_row": self._row[home[root]],
                "place": (self._turns_before[root] + 1 + depth).astype(np.int32),
                "other_branch": ~(on_path | is_call),
                "continued": continued,
            }
        )

    def _positions(self, nodes: pa.Table, name: str) -> Ints:
        names = _numbers(nodes, name)
        return np.where(names == _NONE, _NONE, np.searchsorted(self._node, names))

    def _join_named(self) -> None:
        """Join the trees of one id, unless they are different chats."""
        with_history = np.unique(self._id_key[self._named & (self._turns_before > 0)])
        repeats_history = np.isin(self._id_key, with_history)
        by_id = np.argsort(self._id_key, kind="stable")
        has_child = np.zeros(len(self._node), bool)
        has_child[self._parent[self._parent != _NONE]] = True
        for roots in self._roots_alike(self._id_key, self._named):
            if not repeats_history[roots[0]]:
                self._join_in_time(roots)
                continue
            begun = roots[(self._turns_before[roots] == 0) & ~self._compacted[roots]]
            shared = len(np.unique(self._message[begun])) > 1 or has_child[begun].sum() > 1
            if not shared:
                self._home[begun] = begun[:1]
            ends = np.searchsorted(self._id_key, self._id_key[roots[0]], "right", sorter=by_id)
            starts = np.searchsorted(self._id_key, self._id_key[roots[0]], sorter=by_id)
            of_id = by_id[starts:ends]
            for root in np.setdiff1d(roots, begun):
                before = of_id[: np.searchsorted(of_id, root)]
                self._join_late(root, roots[roots < root], before, shared=shared)

    def _join_in_time(self, roots: Ints) -> None:
        """Requests of one id that repeat no history follow one another; equal ones are one turn."""
        last = roots[0]
        for root in roots[1:]:
            if self._message[root] != self._message[last]:
                self._parent[root] = last
                last = root
            elif self._parent[last] == _NONE:
                self._home[root] = self._home[last]
            else:
                self._parent[root] = self._parent[last]

    def _join_late(self, root: int, roots: Ints, before: Ints, *, shared: bool) -> None:
        """Join a request whose history's last turn is not in the log.

        Args:
            root: The request.
            roots: The roots of its id before it.
            before: The nodes of its id before it.
            shared: Whether the id names several chats.
        """
        same = roots[self._opening[roots] == self._opening[root]]
        if len(same) and not self._compacted[root]:
            self._home[root] = self._home[same[-1]]
        elif len(before) and (self._compacted[root] or not shared):
            self._parent[root] = before[-1]

    def _roots_alike(self, keys: Ints, of: Flags) -> Iterator[Ints]:
        """The roots of each key that several have, in order of time."""
        roots = np.flatnonzero((self._parent == _NONE) & of)
        roots = roots[np.argsort(keys[roots], kind="stable")]
        starts = np.flatnonzero(np.diff(keys[roots], prepend=keys[roots][:1] - 1))
        for group in np.split(roots, starts[1:]):
            if len(group) > 1:
                yield group

    def _roots_and_depths(self) -> tuple[Ints, Ints]:
        """The root of each node and its distance, by steps that double in length."""
        has_parent = self._parent != _NONE
        root = np.where(has_parent, self._parent, np.arange(len(self._parent)))
        depth = has_parent.astype(np.int64)
        while not np.array_equal(further := root[root], root):
            depth += depth[root]
            root = further
        return root, depth

    def _path_of_last(self, root: Ints) -> tuple[Flags, Flags]:
        """Which nodes lead to the last node of their tree, and which are calls of its turns."""
        n = len(root)
        last = np.full(n, _NONE)
        last[root] = np.arange(n)  # the last of equal ones stays
        on_path = np.zeros(n, bool)
        step = last[last != _NONE]
        while len(step):
            on_path[step] = True
            step = self._parent[step]
            step = step[step != _NONE]
        next_on_path = np.full(n, _NONE)
        below = np.flatnonzero(on_path & (self._parent != _NONE))
        next_on_path[self._parent[below]] = below
        beside = np.where(self._parent == _NONE, _NONE, next_on_path[self._parent])
        same = (beside != _NONE) & (self._message[beside] == self._message)
        return on_path, same & ~on_path


def _ends_of(links: Ints) -> Ints:
    """The end of each chain of links."""
    while not np.array_equal(further := links[links], links):
        links = further
    return links


def _numbers(nodes: pa.Table, name: str) -> Ints:
    column = nodes[name].cast(pa.int64()).fill_null(_NONE)
    numbers: Ints = column.to_numpy()
    return numbers.copy()


def _flags(nodes: pa.Table, name: str) -> Flags:
    flags: Flags = nodes[name].to_numpy(zero_copy_only=False)
    return flags.astype(bool)
