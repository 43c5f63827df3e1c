"""A package index on this machine that serves what a test gives it, as badly as the test wants."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PackageIndex:
    """Files by name. cuts: after how many bytes the next answers break off. requests: (path, Range) as they came."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.requests: list[tuple[str, str]] = []
        self.ranges = True
        self.html = False
        self.url = ""

    @property
    def asked_for(self) -> list[str]:
        """The ranges of files that were asked for; empty: all of it."""
        return [asked for path, asked in self.requests if path.startswith("/files/")]


@contextmanager
def serving() -> Iterator[PackageIndex]:
    """An index that answers, on loopback."""
    index = PackageIndex()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

        def do_GET(self) -> None:
            index.requests.append((self.path, self.headers.get("Range", "")))
            parts = self.path.strip("/").split("/")
            if parts[0] == "simple":
                self._page(parts[1])
            else:
                self._file(parts[1])

        def _page(self, project: str) -> None:
            names = [name for name in index.files if name.split("-")[0].replace("_", "-") == project]
            if not names:
                self.send_error(404)
            elif index.html:
                links = "".join(f'<a href="../../files/{name}#sha256=0">{name}</a>' for name in names)
                self._send(200, f"<html><body>{links}</body></html>".encode(), "text/html")
            else:
                files = [{"filename": name, "url": f"../../files/{name}"} for name in names]
                self._send(200, json.dumps({"files": files}).encode(), "application/vnd.pypi.simple.v1+json")

        def _file(self, name: str) -> None:
            content, asked = index.files[name], self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and index.ranges else 0
            cut = index.cuts.pop(0) if index.cuts else None
            self._send(206 if start else 200, content[start:], "application/octet-stream", cut)

        def _send(self, status: int, body: bytes, kind: str, cut: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])
            if cut is not None:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
