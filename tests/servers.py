"""A server on this machine that cuts, corrupts and refuses, for the tests of downloads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves ``files`` by path, as the type in ``kinds``; ``moods`` says what goes wrong at each request for a path."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.moods, self.asked, self.ranges, self.resumes = {}, {}, Counter(), [], True
        self.kinds, self.told = {}, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, path = self.server, self.path.split("?")[0]
        server.asked[path] += 1
        server.told.append(dict(self.headers))
        moods = server.moods.get(path, [])
        mood = moods.pop(0) if moods else "well"
        if isinstance(mood, int) or path not in server.files:
            self.send_error(mood if isinstance(mood, int) else 404)
            return
        content = server.files[path]
        start = 0
        if server.resumes and "Range" in self.headers:
            server.ranges.append(self.headers["Range"])
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        body = content[start:]
        if mood == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if path in server.kinds:
            self.send_header("Content-Type", server.kinds[path])
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if mood == "cut" else body)
        if mood == "cut":
            self.close_connection = True

    def log_message(self, *_):
        pass


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()
