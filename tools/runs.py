"""Train what chapter 11 tells of, one after the other, and write down how it went: results/runs.json.

    python tools/runs.py            # what has no result written down; stopped in any way, it goes on
    python tools/runs.py --list     # what there is, and what is done
    python tools/runs.py NAME …     # these alone
    python tools/runs.py --record   # write down what is done, train nothing

Each training is a command that anybody can repeat; its folder, runs/NAME, stays out of the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import machine

from results import ROOT, commit, stamp

RUNS = ROOT / "runs"
TARGET = ROOT / "results" / "runs.json"
SHORT = "--model small --epochs 12 --validate-every 12 --set size=128,160"
DUSK = "--hold-out 0001TP"
WHOLE = (
    "--epochs 8 --validate-every 4 "
    "--set learning_rate=2e-4 matrix_rate=6e-4 size=360,480 scale=0.75,1.5 balance=1 recompute_norms=false"
)
"""The last stage: whole pictures, from the weights that crops gave."""
ONE_CHANGED = {
    "ours": "",
    "adamw": "matrix_rate=0",
    "no-class-weights": "balance=0",
    "light-of-the-paper": "light=distortion",
    "no-light": "light=none",
    "no-rare": "aim=0 paste=0",
    "one-size": "scale=1,1",
    "float32": "precision=float32",
    "crop-statistics": "recompute_norms=false",
    "float32-average": "precision=float32 average=0.998",
    "float32-drop-path": "precision=float32 drop_path=0.1",
}
"""Our recipe with one thing changed, in short runs of the small model; the last two are changes of float32's."""
EXPERIMENTS = {
    "b0-60": "--model b0 --epochs 60 --validate-every 20",
    "small-60": "--model small --epochs 60 --validate-every 20",
    "b0": "--model b0 --epochs 240 --validate-every 20",
    "small": "--model small --epochs 240 --validate-every 20",
    "b0-more": "--from runs/b0/model --epochs 180 --validate-every 20 --seed 1",
    **{f"{name}-full": f"--from runs/{name}/model {WHOLE}" for name in ("b0-60", "small-60", "b0", "small", "b0-more")},
    **{
        f"{name}{'-dusk' if judge else ''}-{seed}": f"{SHORT} {changes} {judge} --seed {seed}"
        for seed in range(3)
        for name, changes in ONE_CHANGED.items()
        for judge in ("", DUSK)
    },
}
"""Arguments of ``segformer-edu train --data camvid --out runs/NAME`` for each run."""


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if unknown := set(given.names) - EXPERIMENTS.keys():
        parser.error(f"there are no runs {', '.join(sorted(unknown))}; --list shows which there are")
    known = {name for name, told in recorded().items() if "unfinished" not in told}
    if given.list:
        for name, arguments in EXPERIMENTS.items():
            print(f"{'done' if name in known or result_of(name) else '    '}  {name}: {arguments}")
        return
    for name in [] if given.record else given.names or [name for name in EXPERIMENTS if name not in known]:
        if result_of(name) is None:
            train(name, given.threads)
    record()


def result_of(name: str) -> dict[str, Any] | None:
    """Return what a run found; None while it has found nothing."""
    path = RUNS / name / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def train(name: str, threads: int) -> None:
    """Train one, and remember the commit and the machine that it began with."""
    folder = RUNS / name
    folder.mkdir(parents=True, exist_ok=True)
    began = folder / "commit.txt"
    if not began.is_file():
        began.write_text(commit(("segformer_edu/**/*.py",)) + "\n", encoding="utf-8")
        (folder / "machine.txt").write_text(machine(str(threads)) + "\n", encoding="utf-8")
    arguments = [
        "train",
        "--data",
        "camvid",
        *shlex.split(EXPERIMENTS[name]),
        "--out",
        f"runs/{name}",
        "--device",
        "cpu",
    ]
    print(f"{name}: python -m segformer_edu {shlex.join(arguments)}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with open(folder / "output.txt", "a", encoding="utf-8") as output:
        done = subprocess.run(
            [sys.executable, "-m", "segformer_edu", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode:
        print(f"{name}: ended with {done.returncode}; see {folder / 'output.txt'}", flush=True)


def record() -> None:
    """Write down what is done, those that failed too."""
    kept = recorded()
    for folder in sorted(RUNS.iterdir()) if RUNS.is_dir() else []:
        if (folder / "commit.txt").is_file() and (told := told_of(folder)):
            if "unfinished" in told and "unfinished" not in kept.get(folder.name, told):
                continue  # it was done once, elsewhere
            kept[folder.name] = told
    order = [name for name in EXPERIMENTS if name in kept] + sorted(kept.keys() - EXPERIMENTS.keys())
    content = {**stamp("python tools/runs.py", ()), "runs": {name: kept[name] for name in order}}
    TARGET.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{len(kept)} runs in {TARGET.relative_to(ROOT)}")


def recorded() -> dict[str, Any]:
    """Return what is written down, by name: a new clone has no folder of trainings."""
    return json.loads(TARGET.read_text(encoding="utf-8"))["runs"] if TARGET.is_file() else {}


def told_of(folder: Path) -> dict[str, Any] | None:
    """Return what a run's folder tells: all of it when it is done, else how far it came."""
    lines = (
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        if (folder / "log.jsonl").is_file()
        else []
    )
    curve = [[line["step"], round(line["miou"], 4)] for line in lines if "miou" in line]
    losses = [[line["step"], round(line["loss"], 4)] for line in lines if "loss" in line]
    losses = losses[:: max(1, len(losses) // 60)]
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8")) if (folder / "plan.json").is_file() else None
    if plan is None:
        return None
    began = {name: (folder / f"{name}.txt").read_text(encoding="utf-8").strip() for name in ("commit", "machine")}
    told = {**began, **plan, "curve": curve, "losses": losses}
    result = folder / "result.json"
    if not result.is_file():
        return {**told, "unfinished": lines[-1]["step"] if lines else 0}
    found = json.loads(result.read_text(encoding="utf-8"))
    judged = {
        way: {
            "miou": round(scores["miou"], 4),
            "iou": {label: rounded(value) for label, value in scores["iou"].items()},
        }
        for way, scores in found["judged"].items()
    }
    times = {name: found[name] for name in ("seconds", "cpu_seconds", "torch", "threads", "processes")}
    times["precision"] = found.get("precision", plan["plan"]["recipe"]["precision"])
    return {**told, **times, "judged": judged}


def rounded(value: float | None) -> float | None:
    """Return a figure with four digits."""
    return None if value is None else round(value, 4)


if __name__ == "__main__":
    main()
