"""Say what made a result, and whether it is still the result of the code as it is now: `make results`.

Each results/NAME.json has the command that made it, the commit, the date, the machine, and a hash of the code that it
measures. `make results` makes the cheap ones anew where their code has changed since, and names the others.
"""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from machine import THREADS, machine

ROOT = Path(__file__).resolve().parents[1]
SKETCH_TRAINED = (
    *(f"segformer_edu/model/{room}.py" for room in ("attention", "convolution", "decoder", "encoder", "feedforward")),
    *("segformer_edu/model/normalization.py", "segformer_edu/model/segformer.py"),
    *(f"segformer_edu/training/{room}.py" for room in ("chance", "evaluation", "fit", "items", "losses")),
    *(f"segformer_edu/training/{room}.py" for room in ("metrics", "optimizers", "recipe", "run", "settings")),
    "segformer_edu/model/logits.py",
    *("segformer_edu/data/shapes.py", "segformer_edu/data/transforms.py"),
)
"""What a result of the sketch, trained on drawn shapes, is a result of."""
CHEAP = {"assignment": ("tools/assignment.py",), "prediction": ("tools/prediction.py",)}  # minutes


def stamp(command: str, sources: Sequence[str], threads: str = THREADS) -> dict[str, Any]:
    """Say what makes a result, for the beginning of its file.

    Args:
        command: that makes it, to be run in the root.
        sources: patterns, from the root, of the files that it measures; none for what is not to be measured again
            whenever code changes.
        threads: that it is measured with.

    Returns:
        The command, the commit ("-dirty" where the sources are not as in that), the date, the machine, the sources and
        the hash of their code.
    """
    return {
        "command": command,
        "commit": commit(sources),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(threads),
        "sources": list(sources),
        "code": code_hash(sources),
    }


def is_current(result: Mapping[str, Any]) -> bool:
    """Whether a result was measured with the code as it is now, docstrings and comments aside."""
    return "sources" in result and result.get("code") == code_hash(result["sources"])


def commit(sources: Sequence[str]) -> str:
    """Return the name of the last commit, and whether the sources have changed since; "unknown" where there is none."""
    try:
        name = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--", *(f":(top,glob){pattern}" for pattern in sources))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if sources and changed else name


def git(*arguments: str) -> str:
    """Ask git something about this repository."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def code_hash(sources: Sequence[str]) -> str:
    """Return a hash of the files that the patterns find, of code its syntax tree; of nothing where there are none."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in sources for path in ROOT.glob(pattern)}):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        if path.suffix == ".py":
            digest.update(f"{ast.dump(without_texts(ast.parse(path.read_text(encoding='utf-8'))))}\0".encode())
        else:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def without_texts(tree: ast.Module) -> ast.Module:
    """Drop the docstrings, those behind constants too, which do nothing; comments are in no tree."""
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [line for line in body if not is_text(line)]
    return tree


def is_text(node: ast.AST) -> bool:
    """Whether a statement is a string and nothing more."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def main() -> None:
    """Make the cheap results anew where they are older than their code, and say which others are."""
    for path in sorted((ROOT / "results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if is_current(result):
            print(f"{path.name}: as the code is now, of {result['date']}")
        elif path.stem in CHEAP:
            print(f"{path.name}: older than its code; it is made anew")
            subprocess.run([sys.executable, *CHEAP[path.stem]], cwd=ROOT, check=True)
        else:
            print(f"{path.name}: older than its code; on a machine with nothing else to do: {result['command']}")


if __name__ == "__main__":
    main()
