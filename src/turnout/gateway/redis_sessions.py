"""Conversations remembered in Redis or Valkey, so that they outlive the gateway and are shared."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis

from turnout.routing.sessions import (
    LIFETIME_S,
    MAX_ENDS,
    MAX_SESSIONS,
    MemorySessions,
    Session,
    TranscriptEnd,
)

_log = logging.getLogger("turnout.sessions")
_TIMEOUT_S = 1.0
# After a failure the server is left alone for so long.
_PAUSE_S = 2.0
_T = TypeVar("_T")

_REPLACE = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
# Each end is '<0 or 1: continued>|<conversation>|<turn>'; those not yet continued stand first.
_LINK = """
for _, end_ in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if string.sub(end_, 2) == ARGV[1] then redis.call('LREM', KEYS[1], 1, end_) end
end
redis.call('LPUSH', KEYS[1], '0' .. ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[3] - 1)
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_CLAIM = """
local end_ = redis.call('LPOP', KEYS[1])
if not end_ then return false end
redis.call('RPUSH', KEYS[1], '1' .. string.sub(end_, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return end_
"""


class RedisSessions:
    """Sessions in a Redis or Valkey server.

    While the server is down the gateway goes on with what this process remembers, and says so.

    Args:
        url: Of the server, without a password.
        password: None where the server asks for none.
        lifetime_s: Seconds without a request after which a conversation is forgotten.

    Attributes:
        is_down: Whether the last call failed.
    """

    blocking = True

    def __init__(
        self, url: str, password: str | None = None, lifetime_s: float = LIFETIME_S
    ) -> None:
        self._name = url
        self._client: Any = redis.Redis.from_url(
            re.sub("^valkey:", "redis:", url),
            password=password,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
        )
        self._replace = self._client.register_script(_REPLACE)
        self._link = self._client.register_script(_LINK)
        self._claim = self._client.register_script(_CLAIM)
        self._lifetime_ms = round(1000 * lifetime_s)
        self._here = MemorySessions(lifetime_s=lifetime_s)
        self._unsaved: set[str] = set()
        self._paused_until = 0.0
        self.is_down = False

    def get(self, conversation_id: str) -> Session | None:
        """The session of a conversation; None where it was never seen or was dropped."""

        def there() -> Session | None:
            self._save(conversation_id)
            stored = self._client.get(_session_key(conversation_id))
            session = _read(stored) if stored else None
            if session is not None:
                self._here.replace(self._here.get(conversation_id), session)
            elif stored:
                # Of another version; nothing that is stored would ever match it.
                self._client.delete(_session_key(conversation_id))
            return session

        return self._call(there, lambda: self._here.get(conversation_id))

    def replace(self, expected: Session | None, session: Session) -> bool:
        """Store a session if what is stored is still `expected` (None: nothing)."""

        def there() -> bool:
            key = _session_key(session.conversation_id)
            was = expected.to_json() if expected else ""
            if not self._replace([key], [was, session.to_json(), self._lifetime_ms]):
                return False
            self._here.replace(self._here.get(session.conversation_id), session)
            return True

        def here() -> bool:
            if len(self._unsaved) < MAX_SESSIONS:
                self._unsaved.add(session.conversation_id)
            return self._here.replace(expected, session)

        return self._call(there, here)

    def forget(self, conversation_id: str) -> None:
        """Drop the session of a conversation, if there is one."""
        self._here.forget(conversation_id)
        self._call(lambda: self._client.delete(_session_key(conversation_id)), lambda: None)

    def link(self, key: str, conversation_id: str, turn_index: int) -> None:
        """Note that the transcript with this digest ends in a turn of a conversation."""
        end = f"|{conversation_id}|{turn_index}"
        arguments: list[str | int] = [end, self._lifetime_ms, MAX_ENDS]
        self._here.link(key, conversation_id, turn_index)
        self._call(lambda: self._link([_link_key(key)], arguments), lambda: None)

    def claim(self, key: str) -> TranscriptEnd | None:
        """Where a transcript belongs; each conversation once before any is given out again."""
        here = self._here.claim(key)

        def there() -> TranscriptEnd | None:
            end = self._claim([_link_key(key)], [self._lifetime_ms])
            return _end(end) if end else None

        return self._call(there, lambda: here) or here

    def ends(self, key: str) -> list[TranscriptEnd]:
        """Every conversation with this transcript, none claimed."""

        def there() -> list[TranscriptEnd]:
            return [_end(end) for end in self._client.lrange(_link_key(key), 0, -1)]

        return self._call(there, list) or self._here.ends(key)

    def _save(self, conversation_id: str) -> None:
        """Give the server what was decided while it was down."""
        if conversation_id not in self._unsaved:
            return
        session = self._here.get(conversation_id)
        if session is not None:
            key = _session_key(conversation_id)
            self._client.set(key, session.to_json(), px=self._lifetime_ms)
        self._unsaved.discard(conversation_id)

    def _call(self, there: Callable[[], _T], here: Callable[[], _T]) -> _T:
        if time.monotonic() < self._paused_until:
            return here()
        try:
            value = there()
        except (redis.RedisError, OSError) as error:
            self._paused_until = time.monotonic() + _PAUSE_S
            if not self.is_down:
                _log.warning(
                    "sessions %s: cannot be used (%s). Conversations are remembered in this "
                    "process until it is back.", self._name, type(error).__name__,
                )  # fmt: skip
            self.is_down = True
            return here()
        if self.is_down:
            _log.warning("sessions %s: back.", self._name)
            self.is_down = False
        return value


def _session_key(conversation_id: str) -> str:
    return f"turnout:session:{conversation_id}"


def _link_key(key: str) -> str:
    return f"turnout:transcript:{key}"


def _read(stored: bytes) -> Session | None:
    """A stored session; None for one that another version wrote."""
    try:
        return Session.from_json(stored)
    except ValueError:
        return None


def _end(stored: bytes) -> TranscriptEnd:
    continued, rest = stored[:1] == b"1", stored.decode()[2:]
    conversation_id, _, turn_index = rest.rpartition("|")
    return TranscriptEnd(conversation_id, int(turn_index), continued)
