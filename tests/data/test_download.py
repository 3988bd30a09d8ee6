"""Downloads against a server on this machine that cuts, corrupts, refuses and stalls."""

from __future__ import annotations

import hashlib
import json

import pytest
from servers import Server, serving

from segformer_edu.data import camvid, download
from segformer_edu.data.camvid import CamVid, download_camvid
from segformer_edu.data.download import DownloadError, RemoteFile, fetch

CONTENT = bytes(range(256)) * 1000


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0)


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def file(server, tmp_path):
    server.files["/a.png"] = CONTENT
    return RemoteFile(server.url + "/a.png", tmp_path / "deep" / "a.png", len(CONTENT), blob(CONTENT))


def left_over(tmp_path):
    return sorted(path.name for path in tmp_path.rglob("*") if path.is_file())


def test_git_agrees_with_the_hash():
    """`git hash-object` of an empty file and of "hello\\n", as every git prints them."""
    assert blob(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_fetches_once(server, file):
    fetch(file)
    fetch(file)
    assert file.target.read_bytes() == CONTENT
    assert server.asked["/a.png"] == 1


def test_a_cut_is_resumed_where_it_was_cut(server, file):
    server.moods["/a.png"] = ["cut", "cut"]
    fetch(file)
    assert file.target.read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in server.ranges]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1] < len(CONTENT)


def test_a_server_that_cannot_resume_is_asked_for_the_whole(server, file):
    server.resumes, server.moods["/a.png"] = False, ["cut"]
    fetch(file)
    assert file.target.read_bytes() == CONTENT


def test_corruption_is_noticed_and_mended(server, file):
    server.moods["/a.png"] = ["corrupt"]
    fetch(file)
    assert file.target.read_bytes() == CONTENT
    assert server.asked["/a.png"] == 2


def test_lasting_corruption_leaves_nothing(server, file, tmp_path):
    server.moods["/a.png"] = ["corrupt"] * 99
    with pytest.raises(DownloadError, match=r"checksum.*run the same line again"):
        fetch(file)
    assert left_over(tmp_path) == []


def test_what_was_there_survives_a_failure(server, file):
    file.target.parent.mkdir(parents=True)
    file.target.write_bytes(b"mine")
    server.moods["/a.png"] = ["corrupt"] * 99
    with pytest.raises(DownloadError):
        fetch(file)
    assert file.target.read_bytes() == b"mine"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, file, status):
    server.moods["/a.png"] = [status, status]
    fetch(file)
    assert file.target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_final(server, file, status, tmp_path):
    server.moods["/a.png"] = [status] * 99
    with pytest.raises(DownloadError, match=f"answered {status}.*SEGFORMER_EDU_DATA"):
        fetch(file)
    assert server.asked["/a.png"] == 1
    assert left_over(tmp_path) == []


def test_nobody_there(tmp_path):
    with Server() as gone:
        url = gone.url
    with pytest.raises(DownloadError, match="no connection"):
        fetch(RemoteFile(url + "/a.png", tmp_path / "a.png", 1, ""))
    assert left_over(tmp_path) == []


@pytest.fixture
def remote(server, camvid_files):
    """Serve a tiny CamVid with GitHub's listing of it."""
    tree = [{"type": "tree", "path": "CamVid"}, {"type": "blob", "path": "Models/x", "sha": "", "size": 1}]
    for path, content in camvid_files.items():
        server.files[f"/{path}"] = content
        tree.append({"type": "blob", "path": path, "sha": blob(content), "size": len(content)})
    server.files["/listing"] = json.dumps({"tree": tree, "truncated": False}).encode()
    return {"listing": server.url + "/listing?recursive=1", "files": server.url + "/"}


def test_camvid_arrives_whole(server, remote, camvid_files, tmp_path, monkeypatch):
    monkeypatch.setattr(camvid, "LISTING", remote["listing"])
    first = next(iter(camvid_files))
    server.moods[f"/{first}"] = ["cut", 503, "corrupt"]
    download_camvid(tmp_path, **remote)
    assert {path: (tmp_path / path).read_bytes() for path in camvid_files} == camvid_files
    assert len(CamVid("train", tmp_path)) == 2
    asked = server.asked.copy()
    download_camvid(tmp_path, **remote)
    assert {path for path, count in (server.asked - asked).items() if count} == {"/listing"}  # the rest was there


def test_camvid_goes_on_after_a_failure(server, remote, camvid_files, tmp_path):
    last = list(camvid_files)[-1]
    server.moods[f"/{last}"] = [404]
    with pytest.raises(DownloadError, match=last.replace(".", r"\.")):
        download_camvid(tmp_path, **remote)
    assert not [name for name in left_over(tmp_path) if name.endswith(".part")]
    download_camvid(tmp_path, **remote)
    assert (tmp_path / last).read_bytes() == camvid_files[last]


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"tree": [], "truncated": false}'])
def test_a_listing_that_is_none(server, remote, tmp_path, answer):
    server.files["/listing"] = answer
    with pytest.raises(ValueError, match="try again later"):
        download_camvid(tmp_path, **remote)


def test_a_listing_cut_short(server, remote, tmp_path):
    listing = json.loads(server.files["/listing"]) | {"truncated": True}
    server.files["/listing"] = json.dumps(listing).encode()
    with pytest.raises(ValueError, match="does not list all"):
        download_camvid(tmp_path, **remote)


def test_the_commit_is_the_designs():
    assert "bb68b64e72cb004b3ed927fee0f5624dd8097498" in camvid.LISTING
    assert camvid.FILES.endswith("/bb68b64e72cb004b3ed927fee0f5624dd8097498/")
