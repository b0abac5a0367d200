"""An HTTP server on loopback that serves files and misbehaves on demand."""

import hashlib
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass
class Loopback:
    """Context manager that serves `files` at `address(name)`.

    Attributes:
        files: Content by name.
        cut_at: Bytes of a file after which the next connections break, one entry a connection.
        failures: HTTP status codes to answer the next requests with.
        ranges: Whether Range requests are honoured.
        corrupt: Names of files in which one byte is wrong, for the next so many responses.
        validators: Whether responses carry an ETag.
        requests: (name, Range header or "") of every request so far.
    """

    files: dict[str, bytes]
    cut_at: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    ranges: bool = True
    corrupt: dict[str, int] = field(default_factory=dict)
    validators: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"

    def __enter__(self) -> Self:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                loopback._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Connections that were cut on purpose are no news."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.lstrip("/")
        wanted = handler.headers.get("Range", "")
        self.requests.append((name, wanted))
        if self.failures:
            handler.send_error(self.failures.pop(0))
            return
        if name not in self.files:
            handler.send_error(404)
            return
        data = self.files[name]
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        if self.corrupt.get(name, 0):
            self.corrupt[name] -= 1
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        start = 0
        same = handler.headers.get("If-Range", etag) == etag
        if self.ranges and wanted and same:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(data)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) - start))
        if self.validators:
            handler.send_header("ETag", etag)
        handler.end_headers()
        end = self.cut_at.pop(0) if self.cut_at else len(data)
        handler.wfile.write(data[start:end])
        handler.wfile.flush()
        if end < len(data):
            handler.connection.shutdown(socket.SHUT_RDWR)
