"""Object stores on this machine: real servers of S3, of Azure's and of Google's protocol."""

import base64
import contextlib
import hashlib
import hmac
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from pyarrow import fs
from starlette.responses import Response

from tests.servers import free_port, listens, running

# Put there by `make test`, where npm is installed.
AZURITE = Path(__file__).resolve().parents[2] / ".venv/azurite/node_modules/.bin/azurite-blob"
ACCOUNT = "turnout"
KEY = base64.b64encode(b"an account's key \xff\xff\xff, with a slash in it").decode()
_NUMBERS = itertools.count(1)


@dataclass
class Store:
    """A bucket of its own in a server, and its address in Turnout's writing.

    Attributes:
        writer: Puts logs there.
        address: What stands before a bucket.
        settings: What the address of a server on this machine says besides.
        environment: Credentials of who reads.
        bucket: Its name.
    """

    writer: fs.FileSystem
    address: str
    settings: dict[str, str]
    environment: dict[str, str]
    bucket: str = field(default_factory=lambda: f"logs{next(_NUMBERS)}")

    def __post_init__(self) -> None:
        self.writer.create_dir(self.bucket)

    def put(self, path: str, body: bytes) -> None:
        with self.writer.open_output_stream(f"{self.bucket}/{path}", None) as stream:
            stream.write(body)

    def name(self, path: str) -> str:
        """What messages and the manifest call a place in it."""
        return f"{self.address}{self.bucket}/{path}".rstrip("/").replace("anonymous@", "")

    def uri(self, path: str, **more: str) -> str:
        return f"{self.address}{self.bucket}/{path}?{urlencode(self.settings | more)}"


Stores = Iterator[Callable[[], Store]]


@contextlib.contextmanager
def s3() -> Stores:
    """Moto's server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    place = {"endpoint_override": f"{host}:{port}", "scheme": "http", "region": "us-east-1"}
    keys = {"access_key": "testing", "secret_key": "testing"}
    writer = fs.S3FileSystem(**keys, **place, allow_bucket_creation=True)
    environment = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    try:
        yield lambda: Store(writer, "s3://", place, environment)
    finally:
        server.stop()


@contextlib.contextmanager
def azure() -> Stores:
    """Azurite, Microsoft's own server of Blob Storage; it has no hierarchical namespace."""
    if not AZURITE.exists() or shutil.which("node") is None:
        pytest.skip("npm gave no Azure server")
    options = ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"]
    command = [str(AZURITE), *options, "--blobPort"]
    with _served(command, {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}) as host:
        writer = fs.AzureFileSystem(
            ACCOUNT, account_key=KEY, blob_storage_authority=host, blob_storage_scheme="http",
            dfs_storage_authority=host, dfs_storage_scheme="http",
        )  # fmt: skip
        address = f"abfs://{ACCOUNT}@{host}/"
        yield lambda: Store(writer, address, {"enable_tls": "false"}, {"AZURE_STORAGE_KEY": KEY})


@contextlib.contextmanager
def google() -> Stores:
    """An emulator from PyPI, which asks for no credentials.

    Not in this process: Arrow waits for its replies and lets nothing else run meanwhile.
    """
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory", "--port"]
    with _served(command, {}) as host:
        place = {"endpoint_override": host, "scheme": "http"}
        writer = fs.GcsFileSystem(anonymous=True, project_id="turnout", **place)
        yield lambda: Store(writer, "gs://anonymous@", place, {})


@contextlib.contextmanager
def _served(command: list[str], environment: dict[str, str]) -> Iterator[str]:
    """Host and port of a server that a command starts; the port is the command's last word."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "said").open("w") as said:
        server = subprocess.Popen(
            [*command, str(port)], env=os.environ | environment, cwd=folder,
            stdout=said, stderr=said,
        )  # fmt: skip
        try:
            while not listens(port):
                assert server.poll() is None, (Path(folder) / "said").read_text()
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def azure_signature(bucket: str, *, may: str) -> dict[str, str]:
    """A signature (SAS) that opens one container to whoever has it: `r` to read, `l` to list."""
    until, version = "2100-01-01T00:00:00Z", "2020-08-04"
    place = f"/blob/{ACCOUNT}/{bucket}"
    signed = "\n".join([may, "", until, place, "", "", "", version, "c", "", "", "", "", "", ""])
    digest = hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)
    signature = base64.b64encode(digest).decode()
    return {"sp": may, "se": until, "sv": version, "sr": "c", "sig": signature}


@contextlib.contextmanager
def listing_two_at_a_time(server: str) -> Iterator[tuple[str, list[str]]]:
    """An Azure server behind a door that lists two blobs a reply, and the listings asked for."""
    listings: list[str] = []
    # No connection outlives its request: this process ends before the loop that would close it.
    client = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))

    async def door(scope, receive, send):
        body = b""
        while (part := await receive())["type"] == "http.request":
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        url = f"{server}{scope['raw_path'].decode()}?{scope['query_string'].decode()}"
        if "comp=list" in url:
            listings.append(url)
            url += "&maxresults=2"
        headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
        reply = await client.request(scope["method"], url, headers=headers, content=body)
        passed = {k: v for k, v in reply.headers.items() if k != "transfer-encoding"}
        await Response(reply.content, reply.status_code, passed)(scope, receive, send)

    with running(door) as address:
        yield address, listings
