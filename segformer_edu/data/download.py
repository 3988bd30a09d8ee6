"""Downloads that finish or leave nothing behind: progress, resume, retry, and a checksum for every file."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter, Retry
from tqdm import tqdm

ATTEMPTS = 5
PAUSE = 0.5  # seconds before the second attempt; twice as long before each further one
TIMEOUT = (10, 30)  # seconds to connect, and between two pieces
WORTH_RETRYING = (408, 429, 500, 502, 503, 504)


RUN_AGAIN = (
    "Files that did arrive are kept and checked; no partial file is. Check the network and run the same line again: "
    "it goes on where it stopped. Or fetch the data by other means, and set SEGFORMER_EDU_DATA to the folder that "
    "holds it."
)


class DownloadError(OSError):
    """A download that did not succeed; the text says why, and what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        url: where it is.
        target: where it goes.
        size: in bytes.
        blob: git's name for its content, the SHA-1 of "blob", the size, a zero byte and the bytes.
    """

    url: str
    target: Path
    size: int
    blob: str

    def verified(self, path: Path) -> bool:
        """Say whether ``path`` holds exactly this file."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        return hashlib.sha1(b"blob %d\0" % self.size + path.read_bytes()).hexdigest() == self.blob


def request(url: str, *, remedy: str = RUN_AGAIN, **options: Any) -> requests.Response:
    """Ask for ``url`` until an answer comes that is not worth another try, waiting twice as long each time.

    Args:
        url: the address.
        remedy: what to tell the reader to do where it fails.
        options: for ``requests.get``.

    Raises:
        DownloadError: no connection after all attempts, or an answer other than success.
    """
    session = requests.Session()
    retries = Retry(ATTEMPTS - 1, backoff_factor=PAUSE, status_forcelist=WORTH_RETRYING, raise_on_status=False)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    try:
        response = session.get(url, timeout=TIMEOUT, **options)
    except requests.RequestException as error:
        raise DownloadError(advice(url, f"no connection ({type(error).__name__})", remedy)) from error
    if not response.ok:
        reason = f"the server answered {response.status_code} {response.reason}"
        raise DownloadError(advice(url, reason, remedy))
    return response


def advice(url: str, reason: str, remedy: str = RUN_AGAIN) -> str:
    """Return what to tell the reader when a download fails."""
    return f"{url} could not be fetched: {reason}. {remedy}"


def fetch(file: RemoteFile) -> None:
    """Fetch a file, resuming after a cut and starting over after a wrong checksum; nothing to do where it is there.

    Raises:
        DownloadError: no success after all attempts. The target is then as it was, and no partial file is left.
    """
    if file.verified(file.target):
        return
    file.target.parent.mkdir(parents=True, exist_ok=True)
    part = file.target.with_name(file.target.name + ".part")
    reason = ""
    try:
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE * 2**attempt)
            try:
                receive(file.url, part)
            except requests.RequestException as error:  # cut short: the next attempt resumes
                reason = f"the connection broke ({type(error).__name__})"
                continue
            if file.verified(part):
                os.replace(part, file.target)
                return
            reason = f"what arrived ({part.stat().st_size} bytes of {file.size}) has not the expected checksum"
            if part.stat().st_size >= file.size:
                part.unlink()  # corrupt, so nothing to build on
        raise DownloadError(advice(file.url, reason))
    finally:
        part.unlink(missing_ok=True)


def receive(url: str, part: Path) -> None:
    """Append to ``part`` what it lacks of ``url``; start over where the server cannot resume."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with request(url, stream=True, headers=headers) as response:
        resumed = response.status_code == 206
        with part.open("ab" if resumed else "wb") as out:
            for piece in response.iter_content(1 << 16):
                out.write(piece)


def fetch_bytes(url: str, *, limit: int, remedy: str, seconds: float = 120) -> tuple[bytes, str]:
    """Fetch something small into memory.

    Args:
        url: the address.
        limit: more bytes than this are refused.
        remedy: what to tell the reader to do where it fails.
        seconds: a whole download may take.

    Returns:
        What arrived, and its type as the server names it, such as "image/png"; "" where it names none.

    Raises:
        DownloadError: no success after all attempts, an answer that is too large, or one that takes too long.
    """
    content, end = bytearray(), time.monotonic() + seconds
    # Some servers turn away a program that does not say what it is.
    with request(
        url, remedy=remedy, stream=True, headers={"User-Agent": "segformer_edu (a book's library)"}
    ) as response:
        try:
            for piece in response.iter_content(1 << 16):
                content += piece
                if len(content) > limit:
                    raise DownloadError(advice(url, f"it has more than {limit >> 20} MB", remedy))
                if time.monotonic() > end:
                    raise DownloadError(advice(url, f"it was not complete after {seconds:.0f} seconds", remedy))
        except requests.RequestException as error:
            raise DownloadError(advice(url, f"the connection broke ({type(error).__name__})", remedy)) from error
        return bytes(content), response.headers.get("Content-Type", "").split(";")[0].strip()


def fetch_all(files: Sequence[RemoteFile], description: str, workers: int = 8) -> None:
    """Fetch many files at once, with a progress bar in bytes.

    Raises:
        DownloadError: the first file that could not be fetched; files that were complete stay.
    """
    total = sum(file.size for file in files)
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=total, unit="B", unit_scale=True, desc=description) as bar,
    ):
        waiting = [(file, pool.submit(fetch, file)) for file in files]
        try:
            for file, done in waiting:
                done.result()
                bar.update(file.size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
