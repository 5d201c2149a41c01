"""An upstream that sends any bytes, right HTTP or not."""

import contextlib
import socket
import threading
import time


class RawUpstream:
    """Sends bytes of a test's choice to each connection, then closes it.

    Args:
        answers: What the first connection gets, the second, and so on.
        idle_s: How long a connection then stays open.
        unasked: Sent a moment after the answer.
        waits_for_close: Whether a connection stays open until the other side closes it.
    """

    def __init__(
        self,
        *answers: bytes,
        idle_s: float = 0.0,
        unasked: bytes = b"",
        waits_for_close: bool = False,
    ):
        self._answers = list(answers)
        self._idle_s = idle_s
        self._unasked = unasked
        self._waits_for_close = waits_for_close
        self.is_closed = threading.Event()
        self.has_sent_unasked = threading.Event()
        self.n_requests = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listening.close()

    def _serve(self):
        for answer in self._answers:
            with contextlib.suppress(OSError):
                connection, _ = self._listening.accept()
                threading.Thread(target=self._answer, args=(connection, answer)).start()

    def _answer(self, connection, answer):
        with contextlib.suppress(OSError), connection:
            self._read_request(connection)
            connection.sendall(answer)
            if self._waits_for_close and not connection.recv(1):
                self.is_closed.set()
            if self._unasked:
                time.sleep(0.05)
                connection.sendall(self._unasked)
                self.has_sent_unasked.set()
            time.sleep(self._idle_s)

    def _read_request(self, connection):
        got = b""
        while b"\r\n\r\n" not in got:
            got += connection.recv(65536)
        head, _, body = got.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        while len(body) < length:
            body += connection.recv(65536)
        self.n_requests += 1
