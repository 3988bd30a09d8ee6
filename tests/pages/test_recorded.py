"""Recorded results: read beside the chapter, else from the repository, else a sentence."""

from __future__ import annotations

import json
from email.message import Message

import pytest
from servers import serving

from segformer_edu.data import download
from segformer_edu.pages import recorded as module
from segformer_edu.pages.recorded import recorded, spread, verdict


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A place without results."""
    monkeypatch.setattr(module, "HERE", (tmp_path / "results",))
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    return tmp_path / "results"


def linked(monkeypatch, address):
    """Let the package's links lead to an address."""
    links = Message()
    for label, path in {"Homepage": "", "Changelog": "/blob/main/CHANGELOG.md"}.items():
        links["Project-URL"] = f"{label}, {address}{path}"
    monkeypatch.setattr(module, "metadata", lambda _: links)


def test_beside_the_chapter(elsewhere):
    elsewhere.mkdir()
    (elsewhere / "runs.json").write_text('{"runs": {}}')
    assert recorded("runs") == {"runs": {}}


def test_those_of_this_repository_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recorded("speed")["rows"]


def test_from_the_repository(elsewhere, monkeypatch, capsys):
    with serving() as server:
        linked(monkeypatch, server.url)
        server.files["/raw/main/results/speed.json"] = json.dumps({"rows": [1]}).encode()
        server.files["/raw/main/results/page.json"] = b"<html>"
        assert recorded("speed") == {"rows": [1]}
        assert capsys.readouterr().out == ""
        assert recorded("runs") is None
        said = capsys.readouterr().out
        assert "results/runs.json, cannot be read here" in said
        assert "404" in said
        assert f"{server.url}/blob/main/results/runs.json" in said
        assert recorded("page") is None


def test_without_a_network_or_an_address(elsewhere, monkeypatch, capsys):
    linked(monkeypatch, "http://127.0.0.1:9")
    assert recorded("runs") is None
    assert "no connection" in capsys.readouterr().out
    monkeypatch.setattr(module, "metadata", lambda _: Message())
    assert recorded("runs") is None
    assert "does not know where its repository is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("with_it", "without", "said"),
    [
        ((4, 5, 6), (1, 2, 3), "helps"),
        ((1, 2, 3), (4, 5, 6), "harms"),
        ((3, 5, 6), (1, 2, 3), "not told apart"),
        ((4, 5), (1, 2, 3), "too few runs"),
        ((4, 5, 6), (), "too few runs"),
    ],
)
def test_a_verdict_needs_every_run(with_it, without, said):
    assert verdict(with_it, without) == said


def test_the_spread_in_words():
    assert spread([20, 22.06, 30]) == "24.0 (20.0 to 30.0)"
    assert spread([]) == "no run yet"
