"""Pseudonyms for user ids, made with a secret salt that is kept in a file."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from turnout.errors import SettingsError, StorageError
from turnout.storage import storage_error

_SALT_BYTES = 32
_LEAST_BYTES = 16
_PSEUDONYM_BYTES = 16


def salt_beside(out: Path) -> Path:
    """Where the salt of an output is kept if no other place was chosen."""
    return out.with_name(f"{out.name}.salt")


class Salt:
    """A secret salt: with the same one, the same user id gets the same pseudonym.

    Args:
        path: Its file. Where there is none, a random salt is drawn, which `keep` writes there.

    Raises:
        SettingsError: If the file cannot be read or is too short to be a secret.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_new = not path.exists()
        self._secret = secrets.token_hex(_SALT_BYTES).encode() if self._is_new else _read(path)

    @property
    def fingerprint(self) -> str:
        """Tells one salt from another and gives none away, in 16 hex digits."""
        return hashlib.sha256(self._secret).hexdigest()[:16]

    def pseudonym(self, user_id: str) -> str:
        """What stands for a user id: 128 bits of its HMAC-SHA256, as 32 hex digits."""
        digest = hmac.digest(self._secret, user_id.encode("utf-8", "replace"), "sha256")
        return digest[:_PSEUDONYM_BYTES].hex()

    def keep(self) -> None:
        """Write a new salt to its file, which only its owner may read.

        Raises:
            StorageError: If the file cannot be written, or another run wrote it in the meantime.
        """
        if not self._is_new:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise StorageError(
                f"{self._path}: another run wrote its salt there in the meantime; expected one "
                "salt. Run it again: that salt is then used."
            ) from error
        except OSError as error:
            raise storage_error(self._path, error) from error
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._secret + b"\n")
        except OSError as error:
            with contextlib.suppress(OSError):
                self._path.unlink()
            raise storage_error(self._path, error) from error
        self._is_new = False


def _read(path: Path) -> bytes:
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(
            f"{path}: the salt cannot be read ({error.strerror}); expected a file that you may "
            "read. Check its permissions, or name another file with --salt."
        ) from error
    if len(secret) < _LEAST_BYTES:
        raise SettingsError(
            f"{path}: a salt of {len(secret)} bytes; expected at least {_LEAST_BYTES} random ones. "
            "Name a file that does not exist with --salt: a random salt is then written there."
        )
    return secret
