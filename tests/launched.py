"""Programs in several processes on this machine, as torchrun starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path


def in_processes(count: int, *program: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program, a path or ``-m`` and a module, with its arguments, in as many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={count}", f"--master-port={port}"]
    command = [sys.executable, *(launcher if count > 1 else []), *program]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=environment, check=False, cwd=folder
    )
