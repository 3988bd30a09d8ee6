"""`make links` on a server of this machine with a good page, two that moved and a dead one."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import links
import pytest

PAGE = b"<!doctype html><html><body><h1 id='here'>Good</h1></body></html>"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        moved = {"/moved": 301, "/lent": 302}.get(self.path)
        self.send_response(moved or (200 if self.path == "/good" else 404))
        if moved:
            self.send_header("Location", "/good")
        self.send_header("Content-Length", "0" if moved else str(len(PAGE)))
        self.end_headers()
        if not moved and self.command == "GET":
            self.wfile.write(PAGE)

    do_HEAD = do_GET

    def log_message(self, *_):
        """Leave the tests' output to the tests."""


@pytest.fixture
def url():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_good_moved_and_dead_pages_are_told_apart(url, tmp_path):
    page = (
        "# A page\n\n[g]({0}/good) [a]({0}/good#here) [m]({0}/moved) [l]({0}/lent) [d]({0}/dead) [n]({0}/good#none)\n"
    )
    (tmp_path / "README.md").write_text(page.format(url))
    (tmp_path / "MORE.md").write_text(f"# More\n\n[d]({url}/gone)\n")
    (tmp_path / "OTHER.md").write_text(f"# Not asked for\n\n[d]({url}/elsewhere)\n")
    results = links.check_files(tmp_path, ("README.md", "MORE.md"))
    told = links.summary(results).splitlines()
    assert told[0] == "7 external links, 3 dead"
    assert [line.split(": ")[1].removeprefix(url) for line in sorted(told[1:])] == [
        "/dead (README.md:3)",
        "/gone (MORE.md:3)",
        "/good#none (README.md:3)",
        f"/moved (README.md:3) to {url}/good",
    ]


def test_a_link_of_a_chapter_is_found_by_its_cell():
    assert links.place_of({"filename": "notebooks/01_x.ipynb", "lineno": 380004}) == "notebooks/01_x.ipynb, cell 38"


@pytest.mark.parametrize(("status", "ends"), [("working", False), ("broken", True), ("timeout", True)])
def test_a_dead_link_ends_the_command(monkeypatch, capsys, status, ends):
    link = {"uri": "https://x", "filename": "README.md", "lineno": 3, "status": status, "code": 0, "info": "why"}
    monkeypatch.setattr(links, "check_book", list)
    monkeypatch.setattr(links, "check_files", lambda folder, names: [link])
    if ends:
        with pytest.raises(SystemExit, match="dead links"):
            links.main()
    else:
        links.main()
    assert ("dead: https://x (README.md:3): why" in capsys.readouterr().out) is ends
