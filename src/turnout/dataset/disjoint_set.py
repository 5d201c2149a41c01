"""Names in sets that are only ever joined (union-find)."""

from __future__ import annotations


class DisjointSet:
    """Names in sets; a name that was never joined is a set of its own."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def join(self, first: str, second: str) -> None:
        """Make one set of the sets of two names."""
        least, greatest = sorted((self.root(first), self.root(second)))
        self._parents[greatest] = least

    def root(self, name: str) -> str:
        """The least name of a name's set: the same in whatever order the sets were joined."""
        while (parent := self._parents.get(name, name)) != name:
            self._parents[name] = name = self._parents.get(parent, parent)
        return name
