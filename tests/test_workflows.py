"""What stands in .github and .devcontainer: schemas, least permissions, and that whatever is named there is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import generate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
READS, WEEKLY = ({}, {"contents": "read"}), ROOT / ".github" / "workflows" / "weekly.yml"
OWN_OF_GITHUB = r"actions/[\w-]+@v\d+"
PYPIS = "pypa/gh-action-pypi-publish@release/v1"  # the one action that is not GitHub's: PyPI trusts no other way


def faults(schema: str, path: Path) -> str:
    """What check-jsonschema has against a file, by a schema that comes with it; nothing where it keeps the schema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def jobs(path: Path) -> dict[str, dict]:
    return yaml.safe_load(path.read_text())["jobs"]


def steps(path: Path) -> Iterator[dict]:
    for job in jobs(path).values():
        yield from job["steps"]


def commands() -> Iterator[str]:
    """Every line that a workflow runs in a shell."""
    for path in WORKFLOWS:
        for step in steps(path):
            yield from step.get("run", "").splitlines()


def versions(path: Path) -> set[str]:
    """Every version of Python that a workflow sets up, those of a matrix among them."""
    matrices = [job.get("strategy", {}).get("matrix", {}) for job in jobs(path).values()]
    written = " ".join(step.get("with", {}).get("python-version", "") for step in steps(path))
    return {version for matrix in matrices for version in matrix.get("python", [])} | set(
        re.findall(r"\b3\.\d+\b", written)
    )


def test_there_are_workflows():
    assert {path.stem for path in WORKFLOWS} == {"book", "publish", "tests", "weekly"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_keeps_githubs_schema(path):
    assert faults("github-workflows", path) == ""


def test_other_files_keep_their_schemas():
    assert faults("dependabot", ROOT / ".github" / "dependabot.yml") == ""
    assert faults("citation-file-format", ROOT / "CITATION.cff") == ""
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert faults("github-issue-forms", path) == ""


def test_the_container_has_the_books_python_and_a_browser():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    (book,) = versions(WEEKLY.with_name("book.yml"))
    assert container["image"].endswith(f"python:{book}")
    assert "chromium" in container["onCreateCommand"]
    assert container["updateContentCommand"] == "make .venv/.ready"


def test_make_targets_exist():
    named = {target for command in commands() for target in re.findall(r"^make (\S+)", command)}
    known = set(re.findall(r"^([\w./]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"book", "colab"} <= named <= known


def test_files_exist():
    named = {word for command in commands() for word in re.findall(r"(?:^| )((?:\.ci|tools|tests)\b[\w/.]*)", command)}
    places = [step.get("with", {}) for path in WORKFLOWS for step in steps(path)]
    named |= {place["cache-dependency-path"] for place in places if "cache-dependency-path" in place}
    assert {".ci/run", "tools/browser.py", "tests", "requirements.txt"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_windows_runs_what_the_readme_says():
    """Line by line; what make does without saying it too is in the Makefile."""
    (block,) = re.findall(r"^```bat\n(.+?)^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    job = jobs(WEEKLY.with_name("tests.yml"))["windows"]
    assert [step["run"] for step in job["steps"] if "run" in step] == block.splitlines()
    assert job["runs-on"] == "windows-latest"
    for words in ("-m venv .venv", "--requirement requirements.txt", "--no-deps --editable .", "tools/book.py"):
        assert words in block
        assert words in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_slow_machine_is_cut_off(path):
    """A job that runs chapters or tests takes what it needs, up to GitHub's own six hours."""
    runs = re.compile(r"^(make (book|test|colab)|bash \.ci/run|.*-m pytest|.*tools/book\.py)", re.MULTILINE)
    for name, job in jobs(path).items():
        long = any(runs.search(step.get("run", "")) for step in job["steps"])
        assert not (long and "timeout-minutes" in job), name


def test_pythons_are_those_that_the_library_takes_and_colabs():
    """From the oldest that pyproject.toml allows on; the book's own is the Makefile's."""
    tests, book, weekly = (versions(WEEKLY.with_name(name)) for name in ("tests.yml", "book.yml", "weekly.yml"))
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text()).group(1)
    colabs = re.search(r"Python ([\d.]+)", (ROOT / "requirements-colab.txt").read_text()).group(1)
    assert min(tests, key=lambda version: int(version.split(".")[1])) == oldest
    assert book <= weekly == book | {colabs} <= tests
    assert versions(WEEKLY.with_name("publish.yml")) == book
    told = set(re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text()))
    assert told == tests
    assert f"COLAB_PYTHON=python{colabs}" in " ".join(commands())
    assert all(f"command -v python{version}" in (ROOT / "Makefile").read_text() for version in book)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_githubs_own_and_pinned_by_major_version(path):
    others = [step["uses"] for step in steps(path) if not re.fullmatch(OWN_OF_GITHUB, step.get("uses", "actions/a@v0"))]
    assert others == ([PYPIS] if path.stem == "publish" else [])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_a_job_writes_only_what_it_must(path):
    assert yaml.safe_load(path.read_text())["permissions"] in READS
    writing = {name: job["permissions"] for name, job in jobs(path).items() if job.get("permissions", {}) not in READS}
    expected = {
        "book": {"publish": {"pages": "write", "id-token": "write"}},
        "publish": {"publish": {"id-token": "write"}},
        "weekly": {"report": {"issues": "write"}},
    }
    assert writing == expected.get(path.stem, {})


@pytest.mark.skipif(os.name == "nt", reason="the check is written for the shell of a Linux runner")
@pytest.mark.parametrize(("tag", "passes"), [("v{}", True), ("v0.0.0", False), ("{}", False)])
def test_a_tag_that_is_not_the_version_is_not_published(tag, passes):
    script = next(step["run"] for step in steps(WEEKLY.with_name("publish.yml")) if "REF_NAME" in step.get("run", ""))
    settings = os.environ | {"GITHUB_REF_NAME": tag.format(generate.version())}
    done = subprocess.run(["bash", "-e", "-c", script], env=settings, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode == 0) is passes


@pytest.mark.skipif(os.name == "nt", reason="the report is written for the shell of a Linux runner")
@pytest.mark.parametrize(("open_issue", "done"), [("", "issue create --title T "), ("7", "issue comment 7 ")])
def test_a_failure_opens_an_issue_or_comments_on_the_open_one(tmp_path, open_issue, done):
    (tmp_path / "gh").write_text(f'#!/bin/sh\n[ "$2" = list ] && echo "{open_issue}"\necho "$@" >> {tmp_path}/calls\n')
    (tmp_path / "gh").chmod(0o755)
    script = jobs(WEEKLY)["report"]["steps"][0]["run"]
    settings = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "TITLE": "T", "RUN": "https://run"}
    subprocess.run(["bash", "-e", "-c", script], env=settings, check=True)
    asked, written = (tmp_path / "calls").read_text().splitlines()
    assert asked.startswith("issue list --state open ")
    assert written.startswith(done)
    assert "https://run" in written
