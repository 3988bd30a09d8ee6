"""The house's rules that no single room shows: one address, open version ranges, floors in order, documented names."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import floors
import generate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from torch import nn

import segformer_edu

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings it under its old name
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


def requirements(name: str) -> list[Requirement]:
    """The lines of a requirements file, less its comments."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line]


LIBRARY = ROOT / "segformer_edu"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = [Requirement(line) for line in PROJECT["dependencies"]]

# What Google Colab has: the versions that the chapters are run with, and what else of its published freeze of
# 2026-08-19 a dependency of the library could be.
COLAB = {
    "python": "3.13.0",
    "torchvision": "0.26.0",
    "transformers": "5.15.0",
    "huggingface-hub": "1.27.0",
    "safetensors": "0.8.0",
    "scikit-learn": "1.6.1",
    "pandas": "2.2.3",
} | {pin.name: next(iter(pin.specifier)).version for pin in requirements("requirements-colab.txt")}

SKIPPED = {".git", ".venv", "_build", "__pycache__", "vendor"}
PICTURE_OF_CAMVID = re.compile(r"(0001TP|0006R0|0016E5|Seq05VD)_f?\d+", re.IGNORECASE)


def files() -> Iterator[Path]:
    """Every file of the repository that somebody wrote."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part in SKIPPED or part.endswith(("_cache", ".egg-info")) for part in parts)
        if path.is_file() and not hidden and parts[0] not in {".hypothesis", ".ipynb_checkpoints"}:
            yield path


def written_by_hand(path: Path) -> str:
    """What a file holds, less what tools/generate.py writes into it."""
    text = path.read_text(errors="ignore")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells if cell.get("id") not in {"badge", "setup"})
    return generate.SECTION.sub("", text) if str(path.relative_to(ROOT)) in generate.SECTIONS else text


def syntax() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(LIBRARY.rglob("*.py"))}


def test_address_of_the_repository_is_written_once():
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    slug = "/".join(url.rstrip("/").split("/")[-2:])
    places = [str(path.relative_to(ROOT)) for path in files() if slug in written_by_hand(path)]
    assert places == ["_config.yml"]


@pytest.mark.parametrize(("name", "holds"), [
    ("README.md", "pip install git+"), ("pyproject.toml", "[project.urls]"), ("CITATION.cff", "repository-code: "),
])  # fmt: skip
def test_file_is_as_generated(name, holds):
    text = (ROOT / name).read_text()
    assert holds in generate.SECTION.search(text)[0]
    assert generate.with_generated_section(name, text) == text, "run: make generate"


def test_the_grader_knows_the_exercises():
    assert generate.CALLS.read_text(encoding="utf-8") == generate.calls_text(), "run: make generate"


def test_version_stands_in_one_place():
    """pyproject.toml's; what is installed and what is cited follow it."""
    assert segformer_edu.__version__ == PROJECT["version"] == generate.version()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]


def test_the_package_ships_its_types():
    assert (LIBRARY / "py.typed").is_file()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    data = ["py.typed", "pretrained/shipped/*", "pages/streets/*", "checks/calls.json"]
    assert settings["package-data"] == {"segformer_edu": data}


def test_at_most_six_small_frames_of_camvid_are_in_the_repository_and_credited():
    """The data set is its authors'. A few frames may stand in figures; they lie in one folder, with their credits."""
    found = [path for path in files() if PICTURE_OF_CAMVID.match(path.name)]
    assert {path.parent for path in found} <= {LIBRARY / "pages" / "streets"}
    assert len({path.stem for path in found}) <= 6
    assert max(path.stat().st_size for path in found) < 40_000
    assert "Brostow" in (LIBRARY / "pages" / "streets" / "CREDITS.md").read_text()


@pytest.mark.parametrize("dependency", DEPENDENCIES, ids=lambda dependency: dependency.name)
def test_dependency_takes_what_colab_has(dependency):
    name = canonicalize_name(dependency.name)
    assert name in COLAB, f"Colab is not known to have {name}: installing the library there would bring it"
    assert dependency.specifier.contains(COLAB[name])


@pytest.mark.parametrize("dependency", DEPENDENCIES, ids=lambda dependency: dependency.name)
def test_dependency_has_a_wide_range(dependency):
    """A lower bound and no upper one: nothing that a reader has is moved."""
    assert [specifier.operator for specifier in dependency.specifier] == [">="]


def test_python_of_colab_is_taken():
    assert SpecifierSet(PROJECT["requires-python"]).contains(COLAB["python"])


def test_every_pin_is_exact_and_in_the_librarys_ranges():
    pins = {canonicalize_name(pin.name): pin for pin in requirements("requirements.txt")}
    assert {name: str(pin.specifier) for name, pin in pins.items() if not str(pin.specifier).startswith("==")} == {}
    for dependency in [*DEPENDENCIES, *map(Requirement, PROJECT["optional-dependencies"]["test"])]:
        if dependency.marker and not dependency.marker.evaluate():
            continue  # for another Python
        (pin,) = pins[canonicalize_name(dependency.name)].specifier
        assert dependency.specifier.contains(pin.version), dependency


def test_every_pin_can_be_installed_under_every_python_3_11():
    """Debian's is 3.11.2: `make book` fails there if a package asks for a later one."""
    pins = {canonicalize_name(pin.name) for pin in requirements("requirements.txt")}
    asked = {
        name: package.metadata.get("Requires-Python")
        for package in distributions()  # all of the pins in the book's environment, some of them in others
        if (name := canonicalize_name(package.metadata["Name"])) in pins
    }
    later = {name: wanted for name, wanted in asked.items() if not SpecifierSet(wanted or "").contains("3.11.0")}
    assert later == {}


def test_library_imports_its_dependencies_and_nothing_else():
    known = {canonicalize_name(dependency.name) for dependency in DEPENDENCIES}
    at_hand = sys.stdlib_module_names | {"segformer_edu", "typing_extensions"}  # the last under TYPE_CHECKING alone
    distributions = packages_distributions()
    foreign = {}
    for path, tree in syntax().items():
        for name in {name.split(".")[0] for name in floors.imported(tree)} - at_hand:
            owners = distributions.get(name, [name])  # Python 3.10 does not find the owner of every name
            if not known & {canonicalize_name(owner) for owner in owners}:
                foreign[name] = str(path)
    assert foreign == {}


def test_floors_import_from_floors_below_them():
    assert {"model", "data", "validation"} <= floors.imports().keys()


def test_a_floor_that_imports_from_above_is_found(monkeypatch):
    upside_down = dict(reversed(floors.FLOORS.items()))
    monkeypatch.setattr(floors, "FLOORS", upside_down)
    with pytest.raises(ValueError, match="does not stand below"):
        floors.imports()


def test_imports_are_written_in_full_and_go_round_in_no_circle():
    graph = {}
    for path, tree in syntax().items():
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[module] = {name for name in floors.imported(tree) if name.startswith(("segformer_edu.", "."))}
    assert [name for names in graph.values() for name in names if name.startswith(".")] == []
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_public_names_exist_and_are_sorted():
    names = segformer_edu.__all__
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(segformer_edu, name)] == []
    promised = {"DsConv2d", "LayerNorm", "PreNorm", "EfficientSelfAttention", "MixFeedForward", "MiT", "Segformer"}
    assert promised | {"load_pretrained", "convert_state_dict", "segment"} <= set(names)


@pytest.mark.parametrize("name", segformer_edu.__all__)
def test_public_name_is_documented(name):
    value = getattr(segformer_edu, name)
    text = value.__doc__ or ""
    first = text.split("\n\n")[0].replace("\n", " ").strip()
    assert re.match(r"[A-Z].*[.:]$", first), f"{name} does not begin with a sentence: {first!r}"
    if isinstance(value, type) and issubclass(value, nn.Module):
        assert value.__doc__ != nn.Module.__doc__
        for words in ("Args:", "Shapes:", "(B, ", "→", "Source:", "Built in chapter"):
            assert words in text, f"{name} does not say {words!r}"


def test_output_stripping_leaves_a_clean_chapter_alone(tmp_path):
    """What the pre-commit hook runs and what `make generate` writes agree; an execution count is found."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    options = next(hook["entry"].split()[1:] for hook in hooks if hook["id"] == "nbstripout")
    command = [sys.executable, "-m", "nbstripout", "--verify", *options]
    chapters = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert subprocess.run([*command, *chapters], check=False).returncode == 0
    notebook = json.loads(chapters[0].read_text())
    next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")["execution_count"] = 1
    dirty = tmp_path / "dirty.ipynb"
    dirty.write_text(json.dumps(notebook))
    assert subprocess.run([*command, dirty], check=False).returncode == 1


def test_the_core_is_light():
    """Nothing that only pages, downloads or other formats need is loaded with the library."""
    heavy = ["matplotlib", "IPython", "ipywidgets", "requests", "huggingface_hub", "transformers", "PIL.PngImagePlugin"]
    code = f"import sys, segformer_edu; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
