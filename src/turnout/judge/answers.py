"""Stores paid answers in one SQLite file, so that none is paid twice.

An answer is on disk before its worker asks the next question. An attempt in flight when a run was
killed may have been billed, so it counts at its bound.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from turnout.errors import StorageError
from turnout.storage import storage_error

_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
  key TEXT PRIMARY KEY,
  asked_usd REAL NOT NULL DEFAULT 0,  -- the bound of an attempt in flight
  lost_usd REAL NOT NULL DEFAULT 0,   -- bounds of attempts without an answer that may be billed
  status TEXT, need INTEGER, reason TEXT,
  prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is stored.

    Attributes:
        status: As in `verdicts.Verdict`.
        need: As there.
        reason: As there.
        prompt_tokens: As the endpoint counted; None where it did not.
        completion_tokens: The same.
        cost_usd: By those counts; the bound where they are missing; None where no price is known.
    """

    status: str
    need: int | None
    reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None


class AnswerFile:
    """The file of stored answers, open in one process at a time.

    Raises:
        StorageError: If it cannot be opened, is another file, or another run has it open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _locked(path)
        except (sqlite3.Error, OSError) as error:
            if _is_full(error):
                raise storage_error(path, OSError(errno.ENOSPC, str(error))) from error
            raise StorageError(
                f"{path}: the answers stored here cannot be used ({error}); expected a new file or "
                "that of an earlier `turnout judge` that has ended. Wait for it, or choose another "
                "output."
            ) from error

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def stored(self, keys: Iterable[str]) -> dict[str, Answer]:
        """The stored answers of questions, by their key."""
        names = "status, need, reason, prompt_tokens, completion_tokens, cost_usd"
        answers = {}
        for key in keys:
            row = self._row(f"SELECT {names} FROM answers WHERE key = ?", key)  # noqa: S608 (ours)
            if row is not None and row[0] is not None:
                answers[key] = Answer(*row)
        return answers

    def spent_usd(self, keys: Iterable[str]) -> float:
        """The cost so far; attempts that may have been billed count at their bound."""
        sql = "SELECT coalesce(cost_usd, 0) + lost_usd FROM answers WHERE key = ?"
        return sum(float((self._row(sql, key) or (0.0,))[0]) for key in keys)

    def attempt(self, key: str, bound_usd: float) -> None:
        """Record that an attempt at a question is about to be sent."""
        self._write(
            "INSERT INTO answers (key, asked_usd) VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET asked_usd = excluded.asked_usd",
            (key, bound_usd),
        )

    def failed(self, key: str, cost_usd: float) -> None:
        """Record that the attempt ended without an answer, and the cost it counts at."""
        self._write(
            "UPDATE answers SET asked_usd = 0, lost_usd = lost_usd + ? WHERE key = ?",
            (cost_usd, key),
        )

    def store(self, key: str, answer: Answer) -> None:
        """Store the answer of the attempt."""
        self._write(
            "UPDATE answers SET asked_usd = 0, status = ?, need = ?, reason = ?, "
            "prompt_tokens = ?, completion_tokens = ?, cost_usd = ? WHERE key = ?",
            (*astuple(answer), key),
        )

    def _row(self, sql: str, key: str) -> tuple[Any, ...] | None:
        with closing(self._file.execute(sql, (key,))) as cursor:
            row: tuple[Any, ...] | None = cursor.fetchone()
        return row

    def _write(self, sql: str, values: tuple[object, ...]) -> None:
        try:
            self._file.execute(sql, values)
        except sqlite3.Error as error:
            raise StorageError(
                f"{self._path}: an answer could not be stored ({error}); expected a place with "
                "room. Free some space and run it again: stored answers are not asked again."
            ) from error


def _locked(path: Path) -> sqlite3.Connection:
    """Open and lock the file; attempts that a killed process left in flight count as lost."""
    file = sqlite3.connect(path, isolation_level=None, timeout=1)
    try:
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        file.execute("BEGIN IMMEDIATE")
        file.execute(_TABLE)
        file.execute("UPDATE answers SET lost_usd = lost_usd + asked_usd, asked_usd = 0")
        file.execute("COMMIT")
    except sqlite3.Error:
        file.close()
        raise
    return file


def _is_full(error: sqlite3.Error | OSError) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
