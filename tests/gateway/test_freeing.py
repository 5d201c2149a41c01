"""Memory of large requests."""

import asyncio
import threading

from tests.gateway.conftest import assistant, eventually, user
from turnout.gateway import exchange, freeing


class Part:
    """Notes which thread frees it."""

    def __init__(self, freed_by):
        self._freed_by = freed_by

    def __del__(self):
        self._freed_by.append(threading.get_ident())


class Holder:
    def __init__(self, items):
        self._items = items

    def parts(self):
        return [self._items, tuple(self._items)]


def test_what_is_large_is_freed_by_another_thread_than_the_event_loops(monkeypatch):
    monkeypatch.setattr(freeing, "_DELAY_S", 0.01)
    freed_by = []

    async def main():
        freeing.free_later(Holder([Part(freed_by) for _ in range(2000)]))
        for _ in range(1000):
            if len(freed_by) == 2000:
                break
            await asyncio.sleep(0.01)
        return threading.get_ident()

    loop_thread = asyncio.run(main())
    assert len(freed_by) == 2000
    assert loop_thread not in freed_by


def test_a_large_request_is_freed_with_all_that_was_read_of_it(served, monkeypatch):
    freed = []
    monkeypatch.setattr(exchange, "free_later", freed.append)
    history = [m for n in range(2000) for m in (user(f"question {n}"), assistant("an answer"))]
    served.post([*history, user("hello")])
    served.post([user("hello")])
    assert eventually(lambda: freed)
    (large,) = freed
    lengths = sorted(len(part) for part in large.parts())
    # Turns; messages as JSON, as they were read, and without system messages; blocks; digests.
    assert lengths == [2001, 4001, 4001, 4001, 4001, 4002]
