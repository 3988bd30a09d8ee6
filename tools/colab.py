"""Run every chapter as Google Colab would: `make colab`. Colab's versions, an empty folder, the library from git.

Each chapter runs as it is written, its setup cell too, in a kernel whose shell says that it is Colab's. Git is told to
look for the repository's public address in a clone of the present commit; nothing else stands between. Afterwards
`pip freeze` must differ by this library alone, and every control of a widget must move a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from chapters import BUILD, ROOT, chapters, environment, written_to_stderr
from execute import GUARD, SETTINGS
from generate import address
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat.v4 import new_code_cell

PINS = ROOT / "requirements-colab.txt"
HOME = BUILD / "colab"
NAME = "segformer-edu"
# What a setup cell recognises Colab by: the shell's class lives in a module of Colab's own.
STARTUP = 'type(get_ipython()).__module__ = "google.colab._shell"\n'
# Runs after a chapter's last cell, in its kernel: where the library is, and which controls move no picture.
PROBE = """
import json, ipywidgets, segformer_edu
def models():  # as ipywidgets 8 or 7 has them
    known = ipywidgets.widgets.widget
    return list((known._instances if hasattr(known, "_instances") else ipywidgets.Widget.widgets).values())
def pictures():
    return [model.value for model in models() if isinstance(model, ipywidgets.HTML)]
controls = [model for model in models() if hasattr(model, "_options_labels")]
dead = []
for control in controls:
    before, control.index = pictures(), len(control.options) - 1
    dead += [control.description] if pictures() == before else []
print(json.dumps({"library": segformer_edu.__file__, "controls": len(controls), "dead": dead}))
"""


@dataclass(frozen=True)
class Colab:
    """A place that is Colab as far as a chapter can tell: an environment of its own, and what its kernels are told."""

    folder: Path
    environment: Path
    served: Path

    @property
    def python(self) -> Path:
        """Return the environment's Python."""
        return python_of(self.environment)

    def settings(self, *, colab: bool) -> dict[str, str]:
        """Return the variables that a kernel starts with; without ``colab``, its shell says nothing of Colab."""
        inherited = environment()
        for name in ("SEGFORMER_EDU_DATA", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            inherited.pop(name, None)
        return inherited | {
            "PATH": os.pathsep.join([str(self.python.parent), inherited["PATH"]]),
            "XDG_CACHE_HOME": str(HOME / "cache"),
            "IPYTHONDIR": str(self.folder / ("colab" if colab else "elsewhere")),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{self.served.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": address()[0],
        }

    def pip(self, *arguments: str) -> str:
        """Run pip in the environment, in an empty folder; return what it prints."""
        command = [self.python, "-m", "pip", "--disable-pip-version-check", *arguments]
        with tempfile.TemporaryDirectory() as empty:
            place = {"cwd": empty, "env": self.settings(colab=False)}
            return subprocess.run(command, **place, check=True, stdout=subprocess.PIPE, text=True).stdout

    def freeze(self) -> frozenset[str]:
        """Return the lines of `pip freeze`."""
        return frozenset(self.pip("freeze").splitlines())

    def manager(self) -> AsyncKernelManager:
        """Return what starts a kernel with the environment's Python."""
        specs = KernelSpecManager(kernel_dirs=[str(self.folder / "kernels")], ensure_native_kernel=False)
        return AsyncKernelManager(kernel_name="colab", kernel_spec_manager=specs)


@dataclass(frozen=True)
class Run:
    """A chapter as it was run: how long it took, what `pip freeze` gained and lost, what the probe found, the fault."""

    notebook: nbformat.NotebookNode
    seconds: float
    gained: frozenset[str]
    lost: frozenset[str]
    probe: dict[str, object]
    fault: str = ""


def pins(torch: str | None) -> list[str]:
    """Return Colab's versions, with the version of torch that is asked for."""
    lines = [line.split("#")[0].strip() for line in PINS.read_text().splitlines()]
    return [f"torch=={torch}" if torch and line.startswith("torch==") else line for line in lines if line]


def python_of(environment: Path) -> Path:
    """Return the Python of an environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_environment(python: str, wanted: list[str]) -> Path:
    """Make an environment with these versions, unless it is there already; return its folder."""
    version = subprocess.run([python, "-VV"], check=True, capture_output=True, text=True).stdout
    folder, stamp, content = HOME / "environment", HOME / "environment" / "made-of.txt", version + "\n".join(wanted)
    if stamp.is_file() and stamp.read_text() == content:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", folder], check=True)
    install = [python_of(folder), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *wanted]
    subprocess.run(install, check=True)
    stamp.write_text(content)
    return folder


def furnish(folder: Path, made: Path) -> Colab:
    """Put into ``folder`` a clone of the present commit, a kernel of the environment, and a profile that is Colab's."""
    colab = Colab(folder, made, folder / "served.git")
    subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, colab.served], check=True)
    startup = folder / "colab" / "profile_default" / "startup" / "00-colab.py"
    kernel = folder / "kernels" / "colab" / "kernel.json"
    for path in (startup, kernel):
        path.parent.mkdir(parents=True)
    startup.write_text(STARTUP)
    argv = [str(colab.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
    warm = [colab.python, "-c", "import matplotlib.font_manager"]  # the first import draws up a list, and says so
    subprocess.run(warm, cwd=folder, env=colab.settings(colab=False), check=True, stderr=subprocess.DEVNULL)
    return colab


def execute(notebook: nbformat.NotebookNode, colab: Colab, folder: Path, *, on_colab: bool) -> dict[str, object]:
    """Execute the notebook in place, with ``folder`` as its kernel's, and then the probe; return what that found."""
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=GUARD, km=colab.manager(), resources=resources, config=SETTINGS)
    client.owns_km = True  # else nbclient leaves the kernel of a manager that it did not make, and its memory, behind
    with client.setup_kernel(env=colab.settings(colab=on_colab)):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        if not on_colab:
            return {}
        client.set_widgets_metadata()
        notebook.cells.append(new_code_cell(PROBE))
        client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
    return json.loads(notebook.cells.pop().outputs[-1].text)


def run(path: Path, colab: Colab, before: frozenset[str]) -> Run:
    """Run a chapter in an empty folder of the environment, which has no library yet."""
    colab.pip("uninstall", "-qq", "--yes", NAME)
    notebook, probe, fault = nbformat.read(path, as_version=4), {}, ""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as empty:
        try:
            probe = execute(notebook, colab, Path(empty), on_colab=True)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            fault = str(error)
    seconds = time.perf_counter() - start
    after = colab.freeze()
    return Run(notebook, seconds, after - before, before - after, probe, fault)


def complaints(name: str, done: Run, colab: Colab, commit: str) -> Iterator[str]:
    """Yield what is wrong with a chapter's run."""
    if done.fault:
        yield f"{name} failed:\n{done.fault}"
    yield from written_to_stderr(done.notebook, name)
    expected = {f"{NAME} @ git+{address()[0]}@{commit}"}
    if done.gained != expected or done.lost:
        moved = f"gained {sorted(done.gained)} and lost {sorted(done.lost)}"
        yield f"{name}: pip freeze {moved}; expected it to gain {sorted(expected)} and to lose nothing."
    if done.probe and not Path(done.probe["library"]).is_relative_to(colab.environment):
        yield f"{name} imported {done.probe['library']}; expected the library in {colab.environment}."
    for control in done.probe.get("dead", []):
        yield f"{name}: the control {control!r} moves no picture."


def elsewhere(colab: Colab, before: frozenset[str]) -> Iterator[str]:
    """Yield what is wrong where there is no Colab: there a chapter's setup cell does nothing."""
    for path in chapters():
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if cell.id == "setup"]
        with tempfile.TemporaryDirectory() as empty:
            execute(notebook, colab, Path(empty), on_colab=False)
        streams = [output for cell in notebook.cells for output in cell.outputs if output.output_type == "stream"]
        if streams or colab.freeze() != before:
            yield f"{path.name}: its setup cell does something where there is no Colab: {streams}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the Python of the environment; Colab's is 3.13")
    parser.add_argument("--torch", help="a version of torch other than Colab's")
    parser.add_argument("chapters", nargs="*", help="names begin with this, 03 for example; all by default")
    given = parser.parse_args()
    chosen = [path for path in chapters() if not given.chapters or path.name.startswith(tuple(given.chapters))]
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    if subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "segformer_edu"], check=False).returncode:
        print("segformer_edu/ has changes that are not committed: the library installed here will not have them.")
    with tempfile.TemporaryDirectory() as place:
        colab = furnish(Path(place).resolve(), make_environment(given.python, pins(given.torch)))
        colab.pip("uninstall", "-qq", "--yes", NAME)
        before = colab.freeze()
        print(made_of(colab, before))
        wrong = list(elsewhere(colab, before))
        for path in chosen:
            done = run(path, colab, before)
            keep(done.notebook, path.name)
            found = list(complaints(path.name, done, colab, commit))
            print(report(path.name, done, found), flush=True)
            wrong += found
    if wrong or not chosen:
        sys.exit("\n".join(wrong) or "No chapter has such a name.")


def made_of(colab: Colab, frozen: frozenset[str]) -> str:
    """Say which versions the environment has."""
    names = tuple(f"{line.split('==')[0]}==" for line in pins(None))
    version = subprocess.run([colab.python, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return "\n".join([version, *sorted(line for line in frozen if line.startswith(names))])


def report(name: str, done: Run, found: list[str]) -> str:
    """Say in one line how a chapter's run went."""
    state = "failed" if found else "passed"
    controls = f", {done.probe['controls']} controls move pictures" if done.probe.get("controls") else ""
    return f"{name}: {state} in {done.seconds:.0f} s; pip freeze gained {', '.join(sorted(done.gained))}{controls}"


def keep(notebook: nbformat.NotebookNode, name: str) -> None:
    """Keep the executed chapter, to be looked at."""
    folder = HOME / "executed"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / name)


if __name__ == "__main__":
    main()
