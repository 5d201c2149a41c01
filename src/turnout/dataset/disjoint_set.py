"""A union-find structure over names."""

from __future__ import annotations


class DisjointSet:
    """Disjoint sets of names; a name that was never joined is a set of its own."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def join(self, first: str, second: str) -> None:
        """Join the sets of two names."""
        least, greatest = sorted((self.root(first), self.root(second)))
        self._parents[greatest] = least

    def root(self, name: str) -> str:
        """The least name of the set of a name, whatever the order in which sets were joined."""
        while (parent := self._parents.get(name, name)) != name:
            self._parents[name] = name = self._parents.get(parent, parent)
        return name
