"""Which machine this is, in a few words: for times that were measured on it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

THREADS = "2"  # that a chapter runs with


def machine(threads: str = THREADS) -> str:
    """Describe this machine, and how many threads were used, in a few words."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", info.read_text(), flags=re.MULTILINE) if info.is_file() else []
    name = names[0] if names else platform.processor() or platform.machine()
    used = "1 thread" if threads == "1" else f"{threads} threads"
    return f"{os.cpu_count()} CPU cores ({name}), {used}, Python {platform.python_version()}"
