"""``train`` and ``evaluate``: on a small folder, stopped and gone on with, and what is said of wrong settings."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from launched import in_processes
from PIL import Image
from safetensors.torch import load_file

import segformer_edu as se
from segformer_edu.cli import main, train
from segformer_edu.data import Folder
from segformer_edu.data.leaves import CLASSES, write_leaves
from segformer_edu.model.variants import build_segformer
from segformer_edu.training import evaluate
from segformer_edu.training.journal import Journal, read_lines

NAMES = ",".join(CLASSES)
TOGETHER = r"--together plant\d+ --validate 0.25"
SHORT = "--model small --epochs 3 --validate-every 1 --set size=32 batch_size=4 precision=float32 learning_rate=3e-3"
SETTINGS = f"--data leaves --classes {NAMES} {TOGETHER} {SHORT}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with pictures of leaves, weights to start from, and a training."""
    folder = tmp_path_factory.mktemp("made")
    write_leaves(folder / "leaves", plants=8, views=2, size=48)
    torch.manual_seed(0)
    se.save_pretrained(build_segformer("small", 11), folder / "start")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(f"train {SETTINGS} --out runs/whole".split()) == 0
    return folder


@pytest.fixture
def shell(made, monkeypatch, capsys):
    """Run a command beside what was made; return its exit code, what it printed, and its complaints."""
    monkeypatch.chdir(made)

    def call(text: str) -> tuple[int, str, str]:
        code = main(text.split())
        return code, *capsys.readouterr()

    return call


def folder(path="leaves", **options):
    return Folder(f"{path}/images", f"{path}/masks", CLASSES, **options)


def plan(name):
    return json.loads(Path(f"runs/{name}/plan.json").read_text())


def without_reading(data):
    return {name: value for name, value in data.items() if name not in train.READING}


def same_weights(one, other):
    a, b = (load_file(f"runs/{name}/model.safetensors") for name in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_a_training_writes(shell):
    names = {path.name for path in Path("runs/whole").iterdir()} - {"tensorboard", ".lock"}
    assert names == {
        "plan.json", "log.jsonl", "last.pt", "last.pt.before", "best", "seen.png", "judged.txt", "model", "result.json",
    }  # fmt: skip
    judged = Path("runs/whole/judged.txt").read_text().split()
    assert len(judged) == 4
    assert {Path(name).name[:7] for name in judged} == {Path(name).name[:7] for name in judged[::2]}  # whole plants
    steps = [line["step"] for line in read_lines(Path("runs/whole/log.jsonl")) if "miou" in line]
    assert steps == [3, 6, 9]
    model = se.load_pretrained("runs/whole/model")
    assert model.class_names == CLASSES
    assert model.config.dims == (16, 32, 80, 144)
    assert Image.open("runs/whole/seen.png").width > 300


def test_the_figures_of_result_json(shell):
    result = json.loads(Path("runs/whole/result.json").read_text())
    data = folder(names="runs/whole/judged.txt")
    model = se.load_pretrained("runs/whole/model")
    views = {"plain": {}, "flip": {"flip": True}, "flip and scales 0.75, 1, 1.25": {"flip": True}}
    views["flip and scales 0.75, 1, 1.25"]["scales"] = (0.75, 1.0, 1.25)
    assert result["judged"].keys() == views.keys()
    for way, options in views.items():
        scores = evaluate(model, data, progress=False, **options)
        assert result["judged"][way]["confusion"] == scores.confusion.tolist()
        assert result["judged"][way]["miou"] == pytest.approx(scores.mean_iou)
        assert result["judged"][way]["iou"] == pytest.approx(dict(zip(CLASSES, scores.iou.tolist())), nan_ok=True)
    assert without_reading(result["data"]) | {"classes": 0} == {
        "name": "leaves", "training": 12, "judge": "held out", "judging": 4, "classes": 0, "model": "small",
        "from": None,
    }  # fmt: skip
    assert (result["plan"]["recipe"]["steps"], result["plan"]["augment"]["size"]) == (9, [32, 32])
    assert result["seconds"] > 0
    assert result["command"].startswith("python -m segformer_edu")


def test_two_processes_write_what_one_writes(made):
    """And the same losses: here without channels left out, since each process leaves out its own."""
    told = {}
    for name, count in (("one", 1), ("two", 2)):
        command = f"-m segformer_edu train {SETTINGS} dropout=0 --out runs/{name} --device cpu".split()
        done = in_processes(count, *command, folder=made)
        assert done.returncode == 0, done.stderr
        assert "strides" not in done.stderr
        files = {path.name for path in (made / "runs" / name).iterdir()} - {"tensorboard"}
        result = json.loads((made / "runs" / name / "result.json").read_text())
        assert result["processes"] == count
        told[name] = files, [line["loss"] for line in read_lines(made / "runs" / name / "log.jsonl") if "loss" in line]
        assert se.load_pretrained(made / "runs" / name / "best").class_names == CLASSES
    assert told["one"][0] == told["two"][0]
    assert told["two"][1] == pytest.approx(told["one"][1], rel=1e-4)


@pytest.mark.parametrize("stop", [2, 7])
def test_stopped_it_goes_on_and_ends_the_same(shell, monkeypatch, stop):
    step = Journal.__call__

    def stopped(self, history):
        step(self, history)
        if len(history.losses) == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "__call__", stopped)
        code, out, _ = shell(f"train {SETTINGS} --out runs/stopped{stop}")
    assert code == 130
    assert f"Interrupted after {stop} of 9 steps" in out
    assert not Path(f"runs/stopped{stop}/model").exists()
    assert shell(f"train {SETTINGS} --out runs/stopped{stop}")[0] == 0
    assert same_weights(f"stopped{stop}/model", "whole/model")
    assert same_weights(f"stopped{stop}/best", "whole/best")
    lines = [
        [
            {name: value for name, value in line.items() if "seconds" not in name}
            for line in read_lines(Path(f"runs/{name}/log.jsonl"))
            if "miou" in line
        ]
        for name in (f"stopped{stop}", "whole")
    ]
    assert lines[0] == lines[1]


def test_a_finished_training_is_judged_again_and_keeps_its_times(shell):
    before = json.loads(Path("runs/whole/result.json").read_text())
    code, out, _ = shell(f"train {SETTINGS} --out runs/whole")
    assert code == 0
    assert "This training was finished before" in out
    after = json.loads(Path("runs/whole/result.json").read_text())
    assert after["judged"] == before["judged"]
    assert after["seconds"] == pytest.approx(before["seconds"], abs=1)


@pytest.mark.parametrize(
    ("other", "what"),
    [("--seed 1", "its data and plan"), ("--set balance=0", "its plan"), ("--from start", "its data")],
)
def test_another_training_in_the_same_folder_is_refused(shell, other, what):
    before = plan("whole")
    code, _, err = shell(f"train {SETTINGS} --out runs/whole {other}")
    assert code == 1
    assert f"runs/whole holds another training ({what}" in err.splitlines()[-1]
    assert plan("whole") == before


def test_two_trainings_do_not_write_into_one_folder(shell):
    before = Path("runs/whole/log.jsonl").read_bytes()
    with train.alone_in(Path("runs/whole")):
        code, _, err = shell(f"train {SETTINGS} --out runs/whole")
    assert code == 1
    assert "Another training is writing into runs/whole" in err.splitlines()[-1]
    assert Path("runs/whole/log.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ("--size 48 48", "size"),
        ("--void none", "marks, void"),
        ("--void 254", "marks, void"),
        ("--classes-file classes.json", "marks"),
        ("--images images --masks other", "files, held_out"),
        ("--names fewer.txt", "files, held_out"),
        ("--together plant.*", "files, held_out"),
        ("--image-pattern *-1 --mask-pattern *-1", "files, held_out, judging, recipe, training"),
    ],
)
def test_a_folder_read_otherwise_is_another_training(shell, other, what):
    """So that no model is passed off as the result of data that it did not learn from."""
    shutil.copytree("leaves/masks", "leaves/other", dirs_exist_ok=True)
    images = [path.stem for path in sorted(Path("leaves/images").iterdir())]
    Path("fewer.txt").write_text("\n".join(reversed(images)))
    Path("classes.json").write_text(json.dumps({name: [number, 10 + number] for number, name in enumerate(CLASSES)}))
    before = Path("runs/whole/result.json").read_bytes()
    settings = SETTINGS.replace(f"--classes {NAMES}", "") if "classes" in other else SETTINGS
    if "--images" not in other:
        settings += " --images images --masks masks"
    code, _, err = shell(f"train {settings} --out runs/whole {other}")
    assert code == 1
    assert "runs/whole holds another training (its data" in err.splitlines()[-1]
    assert f" differ in {what}, see" in err.splitlines()[-1]
    assert Path("runs/whole/result.json").read_bytes() == before


def test_a_folder_of_before_is_gone_on_with(shell):
    """Its plan.json does not say how the folder was read."""
    shutil.copytree("runs/whole", "runs/old", dirs_exist_ok=True)
    old = plan("old")
    Path("runs/old/plan.json").write_text(json.dumps(old | {"data": without_reading(old["data"])}))
    assert shell(f"train {SETTINGS} --out runs/old")[0] == 0
    assert same_weights("old/model", "whole/model")
    code, _, err = shell(f"train {SETTINGS} --out runs/old --from start")
    assert code == 1
    assert "its data differ in from, see" in err


def test_a_plan_that_nothing_was_learned_by_is_replaced(shell, monkeypatch):
    """The same command, corrected, is no other training; what was learned is not touched."""

    def refused(*_, **__):
        raise ValueError("Item 3: no picture.")

    for number, (name, beside) in enumerate({"nothing": None, "log": "log.jsonl", "model": "model"}.items()):
        out = f"runs/early{number}"
        with monkeypatch.context() as patch:
            patch.setattr(train, "fit", refused)
            assert shell(f"train {SETTINGS} balance=1 --out {out}")[0] == 1
        if beside:
            (Path(out) / beside).touch()
        with monkeypatch.context() as patch:
            patch.setattr(train, "fit", lambda *given, **options: train.History(steps=1))
            code, _, err = shell(f"train {SETTINGS} balance=0 --out {out}")
        assert (code, plan(f"early{number}")["plan"]["balance"]) == ((1, 1) if beside else (130, 0)), name
        assert ("holds another training" in err) == bool(beside)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_does_not_stop_a_training(shell, monkeypatch, number):
    """Each file that cannot be written is told of once, and the weights are the same; without `model`, in a line."""

    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    save, out = train.save_pretrained, f"runs/full{number}"
    with monkeypatch.context() as patch:
        patch.setattr(train, "save_pretrained", lambda *to: (save if to[1].name == "model" else full)(*to))
        patch.setattr(train, "draw_seen", full)
        patch.setattr(Journal, "write", full)
        code, told, err = shell(f"train {SETTINGS} --out {out}")
    assert code == 0
    assert "finished before" not in told
    for name in ("best", "seen.png", "log.jsonl"):
        assert err.count(f"Training goes on without what should be in {out}/{name}: [Errno {number}]") == 1
    assert same_weights(f"full{number}/model", "whole/model")
    with monkeypatch.context() as patch:
        patch.setattr(train, "save_pretrained", full)
        code, _, err = shell(f"train {SETTINGS} --out {out}")
    assert code == 1
    assert err.splitlines()[-1] == f"segformer-edu: error: [Errno {number}] {os.strerror(number)}"


@pytest.mark.parametrize("option", ["--set", "--scales"])
def test_what_is_given_several_times_counts_each_time(shell, monkeypatch, option):
    if option == "--set":
        monkeypatch.setattr(train, "fit", lambda *given, **options: train.History(steps=1))
        settings = "--set size=64 --set batch_size=4 learning_rate=5e-4 --set aim=0.2 --set aim=0.1"
        assert shell(f"train --data leaves --classes {NAMES} --out runs/each {settings}")[0] == 130
        made = plan("each")["plan"]
        assert (made["recipe"]["batch_size"], made["recipe"]["learning_rate"]) == (4, 5e-4)
        assert (made["augment"]["size"], made["augment"]["aim"]) == ([64, 64], 0.1)
    else:
        weights = "evaluate --data leaves --weights runs/whole/model"
        together, apart, one = (
            shell(f"{weights} {scales}")[1] for scales in ("--scales 0.5 1", "--scales 0.5 --scales 1", "--scales 1")
        )
        assert together == apart != one


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"--data leaves --classes {NAMES} --set speed=1",
            "--set speed: a recipe has no such setting; expected one of",
        ),
        (f"--data leaves --classes {NAMES} --set steps=10", "--set steps: a recipe has no such setting"),
        (f"--data leaves --classes {NAMES} --set size=1,2,3", "--set size: the value is [1, 2, 3]; expected"),
        (f"--data leaves --classes {NAMES} --set aim=often", "the value is 'often'; expected something like 0.3"),
        (f"--data leaves --classes {NAMES} --set decay_all=no", "the value is 'no'; expected something like False"),
        (f"--data leaves --classes {NAMES} --set light=dusk", "light is 'dusk'; expected one of none, distortion"),
        (f"--data leaves --classes {NAMES} --set average=2", "average is 2; expected a number from 0 to below 1"),
        (
            f"--data leaves --classes {NAMES} --set learning_rate=1e400",
            "learning_rate is inf; expected a finite number",
        ),
        (f"--data leaves --classes {NAMES} --set learning_rate=NaN", "learning_rate is nan; expected a finite number"),
        (f"--data leaves --classes {NAMES} --set matrix_rate=-1", "matrix_rate is -1; expected a number from 0 up"),
        (f"--data leaves --classes {NAMES} --set balance=-3", "balance is -3; expected a number from 0 up"),
        (f"--data leaves --classes {NAMES} --set balance=1e400", "balance is inf; expected a finite number"),
        (f"--data leaves --classes {NAMES} --set rare=1,99", "rare has the class 99; expected numbers from 0 to 4"),
        (f"--data leaves --classes {NAMES} --set size=0,0", "--set: height is 0; expected a positive"),
        (f"--data leaves --classes {NAMES} --epochs inf", "epochs is inf; expected a finite number"),
        (f"--data leaves --classes {NAMES} --epochs nan", "epochs is nan; expected a finite number"),
        (f"--data leaves --classes {NAMES} --validate-every inf", "validate_every is inf; expected a finite number"),
        (f"--data leaves --classes {NAMES} --epochs 0", "epochs is 0.0; expected a positive number"),
        (f"--data leaves --classes {NAMES} --validate 0.01", "Of 16 items, a share of 0.01 to hold out is 0"),
        (f"--data leaves --classes {NAMES} --together leaf", "'leaf' finds nothing to tell its group by"),
        (f"--data leaves --classes {NAMES} --hold-out dusk", "--hold-out names a sequence of CamVid"),
        (f"--data leaves --classes {NAMES} --model b0 --from start", "which is not --model b0; leave --model out"),
        (f"--data leaves --classes {NAMES} --from nothing.pt", "nothing.pt"),
        ("--data leaves", "What are the classes in leaves/masks? Say how many (--classes 4)"),
        ("--data leaves --classes 3", "holds [3"),
        ("--data leaves --classes a,b,c,a,d", "2 classes have the name 'a'; expected a name of its own each"),
        ("--data leaves --classes a,b,b,c,b", "3 classes have the name 'b'"),
        ("--data nowhere --classes 3", "There is no folder nowhere; expected camvid, or a folder"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_trains_nothing(shell, text, message):
    code, _, err = shell(f"train {text} --out runs/none")
    assert code == 1
    assert message in err.splitlines()[-1]
    assert not Path("runs/none").exists()


def test_wrong_usage(shell, capsys):
    for text, message in {"--set epochs": "expected NAME=VALUE", "--together (": "is no regular expression"}.items():
        with pytest.raises(SystemExit):
            main(f"train --data leaves --out runs/none {text}".split())
        assert message in capsys.readouterr().err


def test_settings_and_rare_classes(shell, monkeypatch):
    """Nothing is trained: the plan alone is looked at. Mines are below 2 % of the leaves' pixels, others are not."""
    monkeypatch.setattr(train, "fit", lambda *given, **options: train.History(steps=1))
    data = f"--data leaves --classes {NAMES}"
    assert shell(f"train {data} --out runs/p1 --set scale=0.7,1.5 balance=0.5 recompute_norms=false")[0] == 130
    assert plan("p1")["plan"]["augment"] | {"light": 0} == {
        "size": [192, 256], "scale": [0.7, 1.5], "largest_share": 0.75, "flip": 0.5, "light": 0, "rare": [4],
        "aim": 0.3, "paste": 0.3, "mix": 0.0,
    }  # fmt: skip
    assert plan("p1")["plan"]["recompute_norms"] is False
    assert plan("p1")["data"]["model"] == "b0"
    assert shell(f"train {data} --out runs/p2 --set rare=2,3 size=64 --from start")[0] == 130
    assert (plan("p2")["plan"]["augment"]["rare"], plan("p2")["plan"]["augment"]["size"]) == ([2, 3], [64, 64])
    assert without_reading(plan("p2")["data"]) | {"classes": 0, "judge": 0} == {
        "name": "leaves", "training": 14, "judge": 0, "judging": 2, "classes": 0, "model": None, "from": "start",
    }  # fmt: skip
    assert shell(f"train {data} --out runs/p3 --recipe paper")[0] == 130
    assert plan("p3")["plan"]["augment"]["rare"] == []


def test_weights_to_start_from(shell, monkeypatch):
    taken = []
    monkeypatch.setattr(train, "fit", lambda model, *given, **options: taken.append(model) or train.History(steps=1))
    code, _, err = shell(f"train --data leaves --classes {NAMES} --from start --out runs/from")
    assert code == 130
    assert "the file has 11 classes; the last layer is drawn anew for 5" in err
    start, own = se.load_pretrained("start").state_dict(), taken[0].state_dict()
    assert [name for name in own if not torch.equal(own[name], start[name])] == [
        "decoder.classify.weight", "decoder.classify.bias",
    ]  # fmt: skip
    assert (taken[0].class_names, taken[0].training) == (CLASSES, True)


def test_folders_named_after_splits(shell):
    for number, path in enumerate(sorted(Path("leaves/images").iterdir())):
        split = "valid" if number < 4 else "train"
        for kind, file in (("images", path), ("masks", Path("leaves/masks") / f"{path.stem}.png")):
            (Path("parted") / split / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, Path("parted") / split / kind)
    code, out, _ = shell(f"train --data parted --classes {NAMES} {SHORT} --epochs 1 --out runs/parted")
    assert code == 0
    assert "held out" not in out
    assert (plan("parted")["data"]["training"], plan("parted")["data"]["judging"]) == (12, 4)
    code, out, _ = shell("evaluate --data parted --weights runs/parted/model --split val")
    scores = evaluate(se.load_pretrained("runs/parted/model"), folder("parted/valid"), progress=False)
    assert out.splitlines()[-1] == f"{scores.describe(CLASSES)}, 4 pictures"
    code, _, err = shell("evaluate --data parted --weights runs/parted/model --split test")
    assert code == 1
    assert "expected one of them in --split, which is test" in err


def test_a_sequence_of_camvid_is_held_out(shell, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for split, names in {"train": ["0001TP_1", "0001TP_2", "0016E5_1", "0016E5_2"], "val": ["0016E5_9"]}.items():
        lines = []
        for name in names:
            for kind, high, shape in ((split, 256, (48, 64, 3)), (f"{split}annot", 12, (48, 64))):
                (tmp_path / "CamVid" / kind).mkdir(parents=True, exist_ok=True)
                array = random.integers(0, high, shape, dtype=np.uint8)
                Image.fromarray(array).save(tmp_path / "CamVid" / kind / f"{name}.png")
            lines.append(f"{split}/{name}.png {split}annot/{name}.png")
        (tmp_path / "CamVid" / f"{split}.txt").write_text("\n".join(lines))
    monkeypatch.setenv("SEGFORMER_EDU_DATA", str(tmp_path))
    settings = "--data camvid --model small --epochs 1 --set size=32 batch_size=2 precision=float32"
    for name, held, counts in (("dusk", "--hold-out 0001TP", (2, 2)), ("official", "", (4, 1))):
        assert shell(f"train {settings} {held} --out runs/{name}")[0] == 0
        data = plan(name)["data"]
        assert (data["training"], data["judging"]) == counts
        assert plan(name)["plan"]["augment"]["rare"] == []  # these pictures are noise, of all classes alike
    assert plan("dusk")["data"]["judge"] == "0001TP of train"
    assert (
        shell("evaluate --data camvid --split train --only 0001TP --weights runs/dusk/model --json dusk.json")[0] == 0
    )
    judged = json.loads(Path("runs/dusk/result.json").read_text())["judged"]["plain"]
    assert json.loads(Path("dusk.json").read_text()) == judged


@pytest.mark.parametrize(
    ("text", "options"),
    [("", {}), ("--flip", {"flip": True}), ("--flip --scales 0.75 1.5", {"flip": True, "scales": (0.75, 1.5)})],
)
def test_evaluates_table_is_that_of_evaluate(shell, tmp_path, text, options):
    code, out, _ = shell(f"evaluate --data leaves --weights runs/whole/model {text} --json {tmp_path}/figures.json")
    scores = evaluate(se.load_pretrained("runs/whole/model"), folder(), progress=False, **options)
    assert code == 0
    *rows, last = out.splitlines()
    assert [row.split()[0] for row in rows] == list(CLASSES)
    assert [float(row.split()[1]) for row in rows] == pytest.approx((100 * scores.iou).tolist(), abs=0.051)
    assert last == f"{scores.describe(CLASSES)}, 16 pictures"
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["confusion"] == scores.confusion.tolist()
    assert (written["miou"], written["accuracy"]) == pytest.approx((scores.mean_iou, scores.accuracy))


def test_evaluate_says_that_a_model_learned_from_what_it_is_judged_by(shell):
    names = Path("runs/whole/judged.txt").read_text().splitlines()
    weights = "evaluate --data leaves --weights runs/whole/model"
    code, _, err = shell(weights)
    assert code == 0
    assert f"{16 - len(names)} of the 16 are not among them: the model may have learned from these" in err
    assert "judged.txt" not in shell(f"{weights} --names runs/whole/judged.txt")[2]


@pytest.mark.parametrize("names", [("x", "x", "y", "z", "w"), ("x", "1 x", "x", "x", "1 x")])
def test_evaluate_keeps_the_figures_of_classes_of_one_name(shell, tmp_path, names):
    se.save_pretrained(se.load_pretrained("runs/whole/model", class_names=names), tmp_path / "same")
    code, _, err = shell(f"evaluate --data leaves --weights {tmp_path}/same --json {tmp_path}/same.json")
    assert code == 0
    assert "The weights' classes are x, " in err
    whole = evaluate(se.load_pretrained("runs/whole/model"), folder(), progress=False)
    found = json.loads((tmp_path / "same.json").read_text())["iou"]
    assert list(found) == [f"{number} {name}" for number, name in enumerate(names)]
    assert list(found.values()) == pytest.approx(whole.iou.tolist(), nan_ok=True)
    code, _, err = shell(f"evaluate --data leaves --weights {tmp_path}/same --classes x,x,y,z,w")
    assert code == 1
    assert "classes have the name 'x'; expected a name of its own each" in err


def test_evaluate_names_what_is_absent_and_what_does_not_fit(shell, tmp_path):
    healthy = [
        path.stem for path in sorted(Path("leaves/masks").iterdir()) if not (np.array(Image.open(path)) == 4).any()
    ]
    (tmp_path / "healthy.txt").write_text("\n".join(healthy))
    torch.manual_seed(0)
    blind = build_segformer("small", 5, class_names=CLASSES)
    torch.nn.init.zeros_(blind.decoder.classify.weight)
    se.save_pretrained(blind, tmp_path / "blind")
    code, out, _ = shell(f"evaluate --data leaves --weights {tmp_path}/blind --names {tmp_path}/healthy.txt")
    assert code == 0
    assert "absent and skipped: mine" in out
    assert out.splitlines()[4].split() == ["mine", "absent"]
    _, _, err = shell(f"evaluate --data leaves --weights {tmp_path}/blind --classes ground,leaf,mine,rust,mildew")
    assert "The weights' classes are ground, leaf, rust, mildew, mine, the data's ground, leaf, mine" in err
    code, _, err = shell(f"evaluate --data leaves --weights {tmp_path}/blind --classes 6")
    assert code == 1
    assert "has 5 classes, the data 6; expected the same" in err
    (tmp_path / "mine.json").write_text("mine")
    code, _, err = shell(f"evaluate --data leaves --weights {tmp_path}/blind --json {tmp_path}/mine.json")
    assert code == 1
    assert "mine.json exists" in err
