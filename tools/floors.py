"""The library's floors, from the top one down: each imports only from those below it.

`tests/test_repository.py` holds the library to this; the book's page of architecture draws it, with what each floor
really imports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1] / "segformer_edu"
FLOORS = {
    "cli": "the library from a shell",
    "checks": "what a reader writes → what went wrong",
    "export": "a model → an ONNX file",
    "inference": "a picture → its class map",
    "training": "losses, metrics, fit, checkpoints",
    "pretrained": "everybody's weights, and back",
    "model": "sketch, paper's model, fast leaves",
    "pages": "figures, widgets, measurements",
    "data": "pictures, class maps, data sets",
    "validation": "checks of arguments",
}
"""For each floor what is there, in a few words."""


def floor_of(path: Path) -> str:
    """Return the floor that a file of the library stands on; __main__.py is a part of cli."""
    name = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    return "cli" if name == "__main__" else name


def syntax() -> dict[Path, ast.Module]:
    """Parse every file of the library but the one that collects the public names."""
    files = sorted(LIBRARY.rglob("*.py"))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in files if path != LIBRARY / "__init__.py"}


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted names of what a file imports, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f".{name.name}" for name in node.names] if node.module == "segformer_edu" else [""]
            yield from (f"{'.' * node.level}{node.module or ''}{name}" for name in names)


def imports() -> dict[str, set[str]]:
    """Return for each floor that there is, from the top one down, the others that its files import from.

    Raises:
        ValueError: a floor that is not in ``FLOORS``, or one that imports from above.
    """
    used: dict[str, set[str]] = {}
    for path, tree in syntax().items():
        names = {name.split(".")[1] for name in imported(tree) if name.startswith("segformer_edu.")}
        used.setdefault(floor_of(path), set()).update(names - {floor_of(path), "__version__"})
    if unknown := used.keys() - FLOORS.keys():
        raise ValueError(f"segformer_edu has {', '.join(sorted(unknown))}; say in tools/floors.py on which floor.")
    above = list(FLOORS)
    for floor, others in used.items():
        if wrong := [other for other in others if other not in above[above.index(floor) + 1 :]]:
            raise ValueError(f"{floor} imports from {', '.join(wrong)}, which does not stand below it.")
    return {floor: used[floor] for floor in FLOORS if floor in used}
