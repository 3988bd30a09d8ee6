"""Grade files that people handed in: what they define is checked in a process of its own, with limits.

Of a notebook only that runs which an exercise's answer is made of: its definition, and what this uses. A training in
another cell does not. The process may neither reach the network, nor start programs, nor write outside of a folder
that is deleted afterwards, nor read what others handed in. That stops accidents and pranks. It is no prison: code of
people whom you do not know at all belongs into a container.
"""

from __future__ import annotations

import ast
import inspect
import json
import linecache
import os
import secrets
import signal
import subprocess
import symtable
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segformer_edu.checks.core import Result

CALLS = Path(__file__).with_name("calls.json")
SECONDS = 60
"""For one exercise; a check itself stops after twenty."""
MEMORY = 4 * 2**30
"""Bytes that an answer may ask for, where the system can limit them."""
LOADING = 120.0
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
TOO_LONG = "takes-too-long", f"It had not ended after {SECONDS:g} seconds."
REFUSED = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile",
    "os.kill", "ctypes.dlopen",
)  # fmt: skip
"""Beginnings of the names of audit events that an answer may not cause; see PEP 578."""
CHANGING = tuple(
    f"os.{name}" for name in ("remove", "rename", "mkdir", "rmdir", "chmod", "chown", "link", "symlink", "truncate")
)
"""Events that it may cause in its own folder."""


@dataclass(frozen=True)
class Task:
    """An exercise of the book.

    Attributes:
        chapter: its number.
        name: of its check.
        title: as the chapter has it.
        call: the cell that checks it.
    """

    chapter: int
    name: str
    title: str
    call: str

    @property
    def asked(self) -> set[str]:
        """The names that the call wants defined."""
        names = {node.id for node in ast.walk(ast.parse(self.call)) if isinstance(node, ast.Name)}
        return names - {"checks"}


@dataclass(frozen=True)
class Grade:
    """What became of one exercise of one submission.

    Attributes:
        task: the exercise's name.
        outcome: one of a check's four, or "not handed in".
        kind: of the mistake.
        words: what the check says.
        remark: what whoever grades should know: of code that is the library's.
    """

    task: str
    outcome: str
    kind: str = ""
    words: str = ""
    remark: str = ""

    def __str__(self) -> str:
        return f"{self.outcome}: {self.kind}" if self.kind else self.outcome


def tasks(chapters: Sequence[int] | None = None) -> list[Task]:
    """Return the book's exercises, those of some chapters or all.

    Raises:
        ValueError: a chapter without exercises.
    """
    found = [Task(**entry) for entry in json.loads(CALLS.read_text(encoding="utf-8"))]
    if missing := set(chapters or ()) - {task.chapter for task in found}:
        raise ValueError(f"Chapter {min(missing)} has no exercises; expected some of {chapters_of(found)}.")
    return [task for task in found if chapters is None or task.chapter in chapters]


def chapters_of(found: Sequence[Task]) -> str:
    """Return the numbers of the chapters, in words."""
    return ", ".join(map(str, sorted({task.chapter for task in found})))


# The parent ----------------------------------------------------------------------------------------------------------


def grade(files: Sequence[Path], asked: Sequence[Task], away: Path | None = None) -> list[Grade]:
    """Grade the exercises in some files of one person.

    Args:
        files: notebooks and .py files.
        asked: the exercises.
        away: a folder that the answers may not read, since it holds those of others.

    Returns:
        A grade for each exercise, in order.
    """
    done: dict[str, Grade] = {}
    while len(done) < len(asked):
        left = [task for task in asked if task.name not in done]
        found, ended = in_a_process(files, left, away)
        done |= found
        if len(found) < len(left):  # the process ended before: the next one was at work
            name = left[len(found)].name
            done[name] = Grade(name, "could not run", *ended)
    return [done[task.name] for task in asked]


def in_a_process(
    files: Sequence[Path], asked: Sequence[Task], away: Path | None
) -> tuple[dict[str, Grade], tuple[str, str]]:
    """Grade in a new process, as far as it comes; also say how it ended, as a kind and words."""
    key = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        told = {
            "files": [str(path.resolve()) for path in files],
            "tasks": [asdict(task) for task in asked],
            "away": None if away is None else str(away.resolve()),
            "key": key,
        }
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SYSTEMROOT") if name in os.environ}
        own = {"HOME": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**kept, **own},
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(json.dumps(told).encode(), LOADING + SECONDS * len(asked))
            ended = ("raises", f"The process that ran it ended with exit code {process.returncode}.")
            if hasattr(signal, "SIGALRM") and process.returncode == -signal.SIGALRM:
                ended = TOO_LONG
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            ended = TOO_LONG
    return dict(read_grades(output, key)), ended


def read_grades(output: bytes, key: str) -> Iterator[tuple[str, Grade]]:
    """Read the lines of a process: those that begin with the key."""
    for line in output.decode("utf-8", "replace").splitlines():
        mark, _, text = line.partition(" ")
        if mark == key:
            found = Grade(**json.loads(text))
            yield found.task, found


# The process ---------------------------------------------------------------------------------------------------------


def main() -> None:
    """Grade what standard input names, and write a line for each exercise."""
    told = json.loads(sys.stdin.buffer.read())
    key, write = told["key"], os.dup(sys.stdout.fileno())
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    files = [Path(name) for name in told["files"]]
    codes = {path: code_of(path) for path in files}
    found = [Task(**entry) for entry in told["tasks"]]
    confine(told["away"])
    for task in found:
        if hasattr(signal, "alarm"):
            signal.alarm(SECONDS)  # whose default is to end this process; a check has one of its own inside
        line = json.dumps(asdict(graded(codes, task)))
        os.write(write, f"{key} {line}\n".encode())
    os.close(write)
    os._exit(0)  # threads that an answer started do not hold it up


def confine(away: str | None) -> None:
    """Take from this process what an answer does not need."""
    try:
        import resource

        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):  # not on Windows and macOS
        pass
    sys.dont_write_bytecode = True
    here = os.path.realpath(os.getcwd())

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(REFUSED):
            raise PermissionError(f"{event} is not allowed while a submission is graded.")
        if event != "open" and event not in CHANGING:
            return
        writes = event != "open" or (isinstance(arguments[2], int) and arguments[2] & WRITING)
        for path in (os.path.realpath(os.fsdecode(each)) for each in arguments if isinstance(each, str | bytes)):
            is_inside = path.startswith(here + os.sep) or path == os.devnull
            if (writes and not is_inside) or (away is not None and path.startswith(away + os.sep)):
                raise PermissionError(f"{path} may not be opened or changed while a submission is graded.")

    sys.addaudithook(refuse)


def graded(codes: dict[Path, str | SyntaxError], task: Task) -> Grade:
    """Make the answer to an exercise, and check it."""
    from segformer_edu import checks

    chosen = [path for path, code in codes.items() if isinstance(code, str) and has_call(code, task.call)]
    broken = [f"{path.name}: {code}" for path, code in codes.items() if not isinstance(code, str)]
    for path in chosen or [path for path, code in codes.items() if isinstance(code, str)]:
        source = str(codes[path])
        statements = made_of(ast.parse(source), task.asked)
        if not task.asked <= {name for statement in statements for name in stored(statement)}:
            continue
        linecache.cache[str(path)] = (len(source), None, source.splitlines(True), str(path))
        names: dict[str, Any] = {"__name__": "submission", "checks": checks}
        for statement in statements:
            try:
                exec(compile(ast.Module([statement], []), str(path), "exec"), names)
            except BaseException as error:  # whatever the submission raises
                words = f"{type(error).__name__}: {error}"
                return Grade(task.name, "could not run", "raises", f"Line {statement.lineno} raised {words[:300]}")
        result = eval(task.call, {**names, "checks": checks})
        remark = "; ".join(filter(None, (not_own(name, names[name], statements) for name in sorted(task.asked))))
        if not isinstance(result, Result):
            return Grade(task.name, "could not run", "check-failed", "The check was tampered with.")
        if result.outcome == "right" and not is_sane(task):
            return Grade(task.name, "could not run", "check-failed", "After this answer the check takes any other.")
        words = result.seen if result.outcome == "could not run" else result.hint
        return Grade(task.name, result.outcome, result.kind, words, remark or result.remark)
    return Grade(task.name, "not handed in", words="; ".join(broken))


def is_sane(task: Task) -> bool:
    """Whether a check still refuses what is no answer at all."""
    from segformer_edu import checks

    nothing = eval(task.call, {"checks": checks, **dict.fromkeys(task.asked)})
    other = eval(task.call, {"checks": checks, **{name: lambda *_, **__: "no answer" for name in task.asked}})
    return {nothing.outcome, other.outcome}.isdisjoint({"right"})


def not_own(name: str, answer: Any, statements: Sequence[ast.stmt]) -> str:
    """Say of an answer that it is the library's, taken or copied; "" of all others."""
    import segformer_edu as se

    for each in (answer, *getattr(answer, "__mro__", ())):
        if str(getattr(each, "__module__", "")).startswith("segformer_edu"):
            return f"{name} is taken from the library"
    written = [each for each in statements if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name == name]
    theirs = getattr(se, name, None)
    if not written or not isinstance(theirs, type):
        return ""
    same = wordless(written[-1]) == wordless(ast.parse(inspect.getsource(theirs)).body[0])
    return f"{name} is the library's, word for word" if same else ""


def wordless(statement: ast.stmt) -> str:
    """Return a definition as its tree, without docstrings."""
    tree = ast.parse(ast.unparse(statement))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


# Code ----------------------------------------------------------------------------------------------------------------


def code_of(path: Path) -> str | SyntaxError:
    """Return the code of a notebook or of a .py file; cells that are no Python are left out."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".ipynb":
            ast.parse(text)
            return text
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        sources = ["".join(cell["source"]) for cell in cells]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SyntaxError) as error:
        return SyntaxError(f"it cannot be read ({type(error).__name__}: {str(error)[:100]})")
    kept, wrong = [], 0
    for source in sources:
        lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
        try:
            ast.parse("\n".join(lines))
            kept.append("\n".join(lines))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            wrong += 1
    return "\n\n".join(kept) if kept or not wrong else SyntaxError("no cell of it is Python")


def has_call(code: str, call: str) -> bool:
    """Whether a check's call stands in some code, however it is spaced."""
    return "".join(call.split()) in "".join(code.split())


def made_of(tree: ast.Module, asked: set[str]) -> list[ast.stmt]:
    """Return the statements that the last definitions of some names consist of, in order.

    Those that define the names or change them, and those that define what they use. What a function's body uses may
    also be defined after it.
    """
    late: set[str] = set()
    while True:
        needed, kept, bodies = asked | late, [], set()
        for statement in reversed(tree.body):
            changed = stored(statement) & needed
            if changed:
                kept.append(statement)
                needed = (needed - changed if defines(statement) else needed) | loaded(statement)
                bodies |= loaded(statement) if isinstance(statement, ast.FunctionDef | ast.ClassDef) else set()
        if bodies <= late:
            return kept[::-1]
        late |= bodies


def defines(statement: ast.stmt) -> bool:
    """Whether a statement gives names their values anew, whatever they were before."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return True
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return bool(targets) and all(isinstance(target, ast.Name | ast.Tuple) for target in targets)


def stored(statement: ast.stmt) -> set[str]:
    """Return the names that a statement defines or changes."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            found |= root(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            found |= root(node.value.func) if isinstance(node.value.func, ast.Attribute) else set()
    return found


def root(node: ast.expr) -> set[str]:
    """Return the name that an attribute or an item belongs to."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def loaded(statement: ast.stmt) -> set[str]:
    """Return the names that a statement uses and does not bring along, as a function brings its arguments."""
    table = symtable.symtable(ast.unparse(statement), "<statement>", "exec")
    found, tables = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}, [table]
    while tables:
        inner = tables.pop().get_children()
        tables += inner
        found |= {symbol.get_name() for each in inner for symbol in each.get_symbols() if symbol.is_global()}
    return found


if __name__ == "__main__":
    main()
