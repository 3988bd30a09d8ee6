"""Chapter 11 reads whatever runs there are: all of them, some, an unfinished one, or none."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest
from chapter_rules import ROOT

from segformer_edu.pages import plots

CELLS = {
    cell["id"]: "".join(cell["source"])
    for cell in json.loads((ROOT / "notebooks" / "11_training_for_real.ipynb").read_text())["cells"]
    if cell["cell_type"] == "code"
}
NAMES = ("sky", "pole", "cyclist")
LEVELS = {"ours": 50, "no-class-weights": 40, "one-size": 49, "no-rare": 53, "adamw": 45, "float32": 50.2}
"""mIoU of the middle one of three seeds, which are a point apart; of all other changes 45."""


def judged(miou):
    way = {"miou": miou / 100, "iou": {name: None if name == "cyclist" else miou / 100 for name in NAMES}}
    return {"judged": {"plain": way, "flip": way}}


def run(**said):
    plan = {"epochs": 24.0, "recipe": {"steps": 100, "batch_size": 8}}
    base = {
        "command": "python -m segformer_edu train",
        "commit": "0" * 40,
        "machine": "2 CPU cores (Intel(R) Xeon(R) Processor), 1 thread, Python 3.11.7",
        "plan": plan,
        "data": {"training": 367, "model": "b0"},
    }
    return {
        **base,
        "torch": "2.13",
        "cpu_seconds": 600.0,
        "curve": [[50, 0.3], [100, 0.4]],
        "losses": [[50, 1.0]],
        **said,
    }


def short_runs():
    pieces = namespace(None)["PIECES"].values()
    changes = {change for pair in pieces for either in pair for change in either.split(" or ")}
    return {
        f"{change}{judge}-{seed}": run(**judged(LEVELS.get(change, 45) - 20 * bool(judge) + seed - 1))
        for change in changes
        for judge in ("", "-dusk")
        for seed in range(3)
    }


def namespace(runs, only=("imports", "recorded-runs")):
    """What the chapter's cells define when the file holds these runs."""
    names = {}
    for name, code in CELLS.items():
        if name in only or ("recorded" in only and name.startswith("recorded-")):
            exec(code, names)
        if name == "imports":
            names["recorded"] = lambda asked: None if runs is None or asked != "runs" else {"runs": runs}
    return names


@pytest.fixture
def shown(monkeypatch):
    """The HTML of all that is displayed."""
    pages = []
    monkeypatch.setattr(plots, "display", lambda page, **_: pages.append(page.data))
    return pages


def told(pages, capsys):
    """Everything that a reader sees, as text."""
    alts = [unescape(alt) for page in pages for alt in re.findall(r'alt="([^"]+)"', page)]
    cells = [unescape(re.sub(r"<[^>]+>", " ", page)) for page in pages if "<img" not in page]
    return " ".join([*alts, *cells, capsys.readouterr().out])


def everything(runs, pages, capsys):
    namespace(runs, only=("imports", "recorded"))
    return re.sub(r"\s+", " ", told(pages, capsys))


def test_no_runs_are_said(shown, capsys):
    said = everything(None, shown, capsys)
    assert "None of the short runs is at hand." in said
    assert "The long run b0 has no validation yet." in said
    assert "the long run is not finished" in said
    assert "not decided, since runs are missing: class weights" in said


@pytest.mark.parametrize("runs", [{}, {"ours-0": run(unfinished=0, curve=[], losses=[])}, {"b0": run(unfinished=50)}])
def test_a_beginning_is_no_result(runs, shown, capsys):
    said = everything(runs, shown, capsys)
    assert "None of the short runs is at hand." in said
    assert ("b0, 24 epochs: not finished; after 50 of 100 steps." in said) is ("b0" in runs)


def test_missing_runs_are_named_and_nothing_is_decided_without_them(shown, capsys):
    runs = short_runs()
    del runs["ours-2"], runs["adamw-dusk-0"], runs["adamw-dusk-1"]
    runs["adamw-dusk-2"] = run(unfinished=10)
    capsys.readouterr()
    said = everything(runs, shown, capsys)
    assert "ours, val (2 of 3)" in said
    assert "adamw, dusk (0 of 3)" in said
    assert "class weights: not decided, since runs are missing" in said


def test_verdicts_follow_from_the_runs(shown, capsys):
    runs = short_runs()
    runs |= {f"no-light-{seed}": run(**judged(30 + seed)) for seed in range(3)}  # val alone will see it
    runs |= {f"no-light-dusk-{seed}": run(**judged(30 + seed)) for seed in range(3)}
    runs |= {name: run(**judged(60)) for name in ("b0", "small", "b0-more-full")} | {"b0-60": run(unfinished=50)}
    capsys.readouterr()
    names = namespace(runs, only=("imports", "recorded"))
    assert names["conclusion"]("class weights") == "helps on both judges"
    assert names["conclusion"]("rare classes aimed at and pasted") == "harms on val and dusk"
    assert names["conclusion"]("bfloat16, not float32") == "is not told apart from chance by either judge"
    assert names["conclusion"]("crops of many scales") == "is not told apart from chance by either judge"
    assert names["conclusion"]("strong light, not none") == "helps on val alone"
    said = re.sub(r"\s+", " ", told(shown, capsys))
    assert "Still missing" not in said
    assert "50.0 (49.0 to 51.0) 40.0 (39.0 to 41.0) +10.0 helps" in said
    assert "pole 40 to 50" in said
    assert "not yet evaluated on test" in said
    assert "60.0" in said


def test_figures_on_test_stand_apart(shown, capsys):
    runs = {"b0-more-full": run(**judged(60), test=judged(55)["judged"])}
    said = everything(runs, shown, capsys)
    assert re.search(r"SegFormer-B0, ours 3.7 M test plain 55.0", said)


def test_a_training_of_stages_is_told_with_all_of_them(shown, capsys):
    later = {"data": {"training": 367, "model": None, "from": "runs/b0/model"}, "curve": [[50, 0.6], [100, 0.65]]}
    runs = {"b0": run(**judged(60)), "b0-more": run(**judged(65), **later)}
    said = everything(runs, shown, capsys)
    assert "b0, 24 + 24 epochs from 60.0 to 65.0" in said
