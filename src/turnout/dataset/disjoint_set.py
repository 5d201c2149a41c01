"""Names that hang together, directly or through others; knows not what they name."""

from __future__ import annotations


class Union:
    """Sets of names that only grow together."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def join(self, one: str, other: str) -> None:
        """Put two names, and all that hang together with them, into one set."""
        least, greatest = sorted((self.least(one), self.least(other)))
        self._above[greatest] = least

    def least(self, name: str) -> str:
        """The least name of the set: the same in whatever order it was put together."""
        while (above := self._above.get(name, name)) != name:
            self._above[name] = name = self._above.get(above, above)
        return name
