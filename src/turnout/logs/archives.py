"""Files of .zip archives, read where they are."""

from __future__ import annotations

import zipfile

import pyarrow as pa

from turnout.errors import RecordError

ARCHIVE = ".zip"
_ENCRYPTED = 0x1
# What Macs add beside every file.
_NO_FILES = ("__MACOSX/", ".DS_Store")


def members_of(stream: pa.NativeFile, name: str) -> list[tuple[str, str]]:
    """The path of every file of an archive, with a fingerprint of its content.

    Args:
        stream: The archive.
        name: The archive's name, for messages.

    Raises:
        RecordError: If it is no whole archive, or needs a password.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise RecordError(
            f"{name}: not a readable .zip archive ({error}); expected a whole one. Download it "
            "again, or unpack it and name the folder."
        ) from error
    if any(info.flag_bits & _ENCRYPTED for info in infos):
        raise RecordError(
            f"{name}: the archive needs a password; expected one without. Unpack it and name the "
            "folder."
        )
    return [
        (info.filename, f"{info.file_size}|{info.CRC}")
        for info in infos
        if not info.filename.startswith(_NO_FILES) and not info.filename.endswith(_NO_FILES)
    ]


def opened_member(stream: pa.NativeFile, member: str) -> pa.NativeFile:
    """A file of an archive, decompressed as it is read.

    Args:
        stream: The archive, which is closed with the file.
        member: The file's path in it.

    Raises:
        OSError: If it cannot be decompressed.
    """
    try:
        return pa.PythonFile(_Member(stream, member), mode="r")
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise OSError(f"its archive cannot be read: {error}") from error


class _Member:
    """A member as Arrow reads files; a damaged one is an `OSError` like any other file's."""

    closed = False

    def __init__(self, stream: pa.NativeFile, member: str) -> None:
        self._stream = stream
        self._archive = zipfile.ZipFile(stream)
        self._file = self._archive.open(member)
        self._size = self._archive.getinfo(member).file_size

    def read(self, n_bytes: int = -1) -> bytes:
        try:
            return self._file.read(n_bytes)
        except (zipfile.BadZipFile, EOFError) as error:
            raise OSError(f"the archive is damaged: {error}") from error

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        self._file.close()
        self._archive.close()
        self._stream.close()
