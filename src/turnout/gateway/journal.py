"""What the gateway served, as JSON Lines that `turnout ingest` reads back."""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from turnout.storage import storage_error

_log = logging.getLogger("turnout.journal")


class Journal:
    """Appends one line a request to `journal-YYYY-MM-DD.jsonl` (UTC), readable by its owner alone.

    A request is never failed for the journal's sake: what cannot be written is counted, and the
    first time said in the log.

    Args:
        folder: Created where it is not.

    Raises:
        StorageError: If the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.lost_lines = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._append("")
        except OSError as error:
            raise storage_error(folder, error) from error

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an entry; may be called from any thread."""
        line = json.dumps(entry, ensure_ascii=False, default=str) + "\n"
        try:
            self._append(line)
        except OSError as error:
            self.lost_lines += 1
            if self.lost_lines == 1:
                problem = storage_error(self._folder, error)
                _log.warning("%s Requests go on; their lines are lost.", problem)

    def _append(self, line: str) -> None:
        path = self._folder / f"journal-{dt.datetime.now(dt.UTC):%Y-%m-%d}.jsonl"
        # A message may hold half of a surrogate pair; the line must be written all the same.
        data = line.encode("utf-8", "replace")
        with self._lock:
            if not path.exists():
                path.touch(mode=0o600)
            with path.open("ab") as stream:
                stream.write(data)
