"""``segformer-edu train``: a model learns from pictures and class maps, and goes on where it was stopped."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn
from torch.utils.data import Subset

from segformer_edu.cli.command import LICENCE, Add, Command, write_whole
from segformer_edu.cli.data import (
    DATA,
    add_data_options,
    an_expression,
    classes_of,
    is_camvid,
    names_of,
    pairs_of,
    training_data,
)
from segformer_edu.cli.evaluate import figures, table
from segformer_edu.cli.segment import a_device, usable_device
from segformer_edu.cli.terminal import UsersError, tell
from segformer_edu.data.classes import spare_colours
from segformer_edu.data.items import parts_of
from segformer_edu.data.memory import InMemory, class_counts
from segformer_edu.inference import segment
from segformer_edu.model.segformer import Segformer
from segformer_edu.model.variants import SIZES, build_segformer
from segformer_edu.pretrained.load import load_pretrained
from segformer_edu.pretrained.save import save_pretrained
from segformer_edu.training.evaluation import evaluate
from segformer_edu.training.fit import fit
from segformer_edu.training.journal import Journal
from segformer_edu.training.norms import recompute_statistics
from segformer_edu.training.plans import PLANS, Plan, balanced_weights
from segformer_edu.training.precision import precision_on
from segformer_edu.training.processes import Processes, joined
from segformer_edu.training.run import History
from segformer_edu.validation import check_from_zero, check_numbers

USAGE = """segformer-edu train --data camvid|FOLDER --model MODEL --out FOLDER
           [--recipe NAME] [--epochs NUMBER] [--set NAME=VALUE …]
           [--seed NUMBER] [--from SOURCE] [--hold-out SEQUENCE]
           [--validate SHARE] [--together EXPRESSION] [--validate-every EPOCHS]
           [--device DEVICE] [--workers NUMBER]"""

TEXT = f"""Train a model, and write what it learned, how, and how well into a folder.

{DATA}
Where no folder is named val, a share of the pictures is held out: --validate.
Of several pictures of one plant, street or patient all must be held out, or
none: --together says what their names share, as a regular expression:
--together "plant[0-9]+" for plant07-1.jpg and plant07-2.jpg.

--recipe is {" or ".join(PLANS)}: the optimizer, its rates, the augmentation, all that
decides a training, as one value that is written to plan.json. --set changes one
number of it: --set learning_rate=5e-4 size=256,256. The size is that of the
crops that are cut out of the pictures; --size brings the pictures to another.
The rare classes, which crops are laid around, are those below 2 % of the
pixels, unless --set rare=2,4 says otherwise.

Stopped in whatever way, the same command goes on from the last checkpoint, and
ends with the same weights as if it had not been stopped.

Into --out go: plan.json; log.jsonl, a line every 50 steps and each validation;
last.pt and last.pt.before, the newest checkpoint and the one before; best, the
model of the best validation; seen.png, some pictures with their class maps,
true and predicted; judged.txt, the names of the pictures that it is judged by,
which --names of evaluate takes; model, the result, which --weights of the other
commands takes; result.json, its figures. With TensorBoard installed it is told
the same: tensorboard --logdir FOLDER."""

EXAMPLES = """examples:
  segformer-edu train --data camvid --model b0 --out runs/b0
  segformer-edu train --data camvid --model small --out runs/dusk \\
      --hold-out 0001TP --epochs 40
  segformer-edu train --data my-data --classes background,crack \\
      --from camvid-b0 --together "bridge[0-9]+" --out runs/cracks
  torchrun --nproc-per-node 2 -m segformer_edu train --data camvid …

exit codes: 0 done; 1 the data, or a setting, are not as they should be, and one
line says what is wrong; 2 wrong usage; 130 stopped by Ctrl-C, and saved"""

SHOWN = 4
SIZE = "b0"
OTHERWISE = {"name", "steps", "seed", "validate_every"}
"""Settings of a plan that have options of their own, or follow from others."""
LEARNED = ("last.pt", "last.pt.before", "log.jsonl", "best", "model", "result.json")
"""What a folder holds once something was learned; beside plan.json alone, nothing was."""
READING = ("size", "void", "first", "marks", "files", "held_out")
"""What plan.json says of how a folder is read; plans that were written before it did say nothing of it."""
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "flip": {"flip": True},
    "flip and scales 0.75, 1, 1.25": {"flip": True, "scales": (0.75, 1.0, 1.25)},
}
"""In which ways a model looks at the pictures that it is judged by; figures are kept apart."""


def a_setting(text: str) -> tuple[str, Any]:
    """Read one of ``--set``: a name and a number, a word, or several numbers with commas."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; expected NAME=VALUE")
    try:
        return name, json.loads(
            f"[{value}]" if "," in value else value.lower() if value in ("True", "False") else value
        )
    except ValueError:
        return name, value


def add_options(add: Add) -> None:
    """Add the options of ``train``."""
    add_data_options(add)
    sizes = f"{', '.join(SIZES)}; b0 by default, or what --from is"
    add("--model", type=str.lower, choices=list(SIZES), metavar="MODEL", help=sizes)
    add("--out", type=Path, required=True, metavar="FOLDER", help="what is learned and told goes there")
    add("--recipe", choices=list(PLANS), default="ours", help="how to train; ours by default")
    add("--epochs", type=float, metavar="NUMBER", help="how often each picture is seen; the recipe's by default")
    changes: dict[str, Any] = {"type": a_setting, "nargs": "+", "action": "extend", "default": []}
    add("--set", **changes, metavar="NAME=VALUE", help="change the recipe; may be given several times")
    add("--seed", type=int, default=0, metavar="NUMBER", help="of the weights, the order and the augmentation")
    add("--from", dest="source", metavar="SOURCE", help="weights to start from, as for segment; fresh ones by default")
    add("--size", type=int, nargs=2, metavar="PIXELS", help="of FOLDER: height and width to bring all pictures to")
    add("--hold-out", metavar="SEQUENCE", help="of CamVid: judge by this sequence of train (0001TP, dusk), not by val")
    add("--validate", type=float, default=0.15, metavar="SHARE", help="of FOLDER: pictures held out; 0.15 by default")
    add("--together", type=an_expression, metavar="EXPRESSION", help="of FOLDER: what tells which pictures go together")
    add("--validate-every", type=float, default=10, metavar="EPOCHS", help="epochs between validations; 10 by default")
    add("--device", type=a_device, metavar="DEVICE", help="cpu, cuda, cuda:1 or mps; by default the fastest at hand")
    add("--workers", type=int, default=0, metavar="NUMBER", help="processes that prepare pictures; 0 by default")


def run(given: argparse.Namespace) -> int:
    """Train, alone or with the other processes that torchrun started, and write the result."""
    with joined(given.device) as processes, ExitStack() as stack:
        return trained(given, processes, stack)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder, for the block; a killed one keeps nobody out.

    Raises:
        UsersError: one is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsersError(
            f"Another training is writing into {folder}; wait for its end, stop it, or choose another --out. If "
            f"none is at work, delete {lock.lock_file}."
        ) from None
    except NotImplementedError:  # a file system without locks
        pass
    try:
        yield
    finally:
        lock.release()


def trained(given: argparse.Namespace, processes: Processes, stack: ExitStack) -> int:
    """Train, and write the result; ``stack`` keeps the folder until the end."""
    train, judge = training_data(given)
    if processes.is_first and isinstance(judge, Subset):
        both = len(train) + len(judge)
        tell(f"{len(judge)} of {both} pictures are held out to judge by (--validate, --together, --seed)")
    shows = sys.stderr.isatty() and processes.is_first
    train, judge = InMemory(train, progress=shows), InMemory(judge, progress=shows)
    names = classes_of(train.data)
    counts = class_counts(train, len(names))
    plan = plan_of(given, len(train), counts)
    model = model_of(given, plan, names).to(usable_device(given.device))
    description = {"command": command_of(), "data": described(given, train, judge), "plan": plan.to_dict()}
    if processes.is_first:
        stack.enter_context(alone_in(given.out))
        check_same(given.out / "plan.json", description)
        write_whole(given.out / "judged.txt", "".join(f"{name}\n" for name in names_of(judge.data)).encode())
    weights = balanced_weights(counts, plan.balance) if plan.balance else None
    journal = Journal(
        given.out / "log.jsonl", plan.recipe, writer=tensorboard(given.out) if processes.is_first else None
    )
    note = Beside(journal, journal.path)
    history = fit(
        model,
        train,
        plan.recipe,
        validation=judge,
        augment=plan.augment,
        class_weights=weights,
        checkpoint=given.out / "last.pt",
        keep_earlier=True,
        device=next(model.parameters()).device,
        workers=given.workers,
        on_step=note if processes.is_first else None,
        on_validation=best_kept(given.out, judge, names) if processes.is_first else None,
        progress=shows,
    )
    if not history.finished:
        return 130
    if processes.is_first and not note.calls:
        tell("This training was finished before: nothing is left to learn; its model is judged again.")
        Beside(journal.open, journal.path)(len(history.losses))
    finish(given.out, model, plan, train, judge, names, {**description, **journal.times()})
    return 0


def plan_of(given: argparse.Namespace, pictures: int, counts: torch.Tensor) -> Plan:
    """Return the plan with what was set otherwise.

    Raises:
        UsersError: a setting that a plan does not have, or a value that it cannot have.
    """
    plan = PLANS[given.recipe]
    own = {name: value for name, value in vars(plan).items() if not hasattr(value, "__dataclass_fields__")}
    places: dict[str, Any] = {"": own, "recipe": vars(plan.recipe), "augment": vars(plan.augment)}
    changed: dict[str, dict[str, Any]] = {place: {} for place in places}
    for name, value in [*given.set, *([] if given.epochs is None else [("epochs", given.epochs)])]:
        found = [place for place, known in places.items() if name in known and name not in OTHERWISE]
        if not found:
            known = sorted({name for known in places.values() for name in known} - OTHERWISE)
            raise UsersError(f"--set {name}: a recipe has no such setting; expected one of {', '.join(known)}.")
        changed[found[0]][name] = like(places[found[0]][name], name, value)
    try:
        recipe, augment = replace(plan.recipe, **changed["recipe"]), replace(plan.augment, **changed["augment"])
        plan = replace(plan, recipe=recipe, augment=augment, **changed[""])
        check_numbers(epochs=plan.epochs, validate_every=given.validate_every)
        check_from_zero(balance=plan.balance, rare_share=plan.rare_share)
        check_rare(plan.augment.rare, len(counts))
        return plan.of(pictures, counts, seed=given.seed, validate_every=given.validate_every)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsersError(f"--set: {error}") from error


def check_rare(rare: tuple[int, ...], count: int) -> None:
    """Raise ValueError for a rare class that is none of so many."""
    if gone := [label for label in rare if label >= count]:
        raise ValueError(
            f"rare has the class {gone[0]}; expected numbers from 0 to {count - 1}, one a class of the data."
        )


def like(usual: Any, name: str, value: Any) -> Any:
    """Return what a setting is set to, in the form that it usually has: 128 becomes (128, 128) for a size.

    Raises:
        UsersError: something of another kind.
    """
    parts = value if isinstance(value, list) else [value]
    are_numbers = all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts)
    if isinstance(usual, tuple):
        wanted = len(parts) if name == "rare" else len(usual)
        if are_numbers and len(parts) in (1, wanted):
            return tuple(parts * (wanted // len(parts)))
    elif isinstance(value, type(usual)) if isinstance(usual, bool | str) else are_numbers and len(parts) == 1:
        return value
    form = "1,3" if name == "rare" else ",".join(map(str, usual)) if isinstance(usual, tuple) else usual
    raise UsersError(f"--set {name}: the value is {value!r}; expected something like {form}.")


def command_of() -> str:
    """Return the command as it was typed, for whoever repeats it."""
    return shlex.join(["python", "-m", "segformer_edu", *sys.argv[1:]])


def described(given: argparse.Namespace, train: InMemory, judge: InMemory) -> dict[str, Any]:
    """Say what a model learns from, and what it is judged by: all that decides the data."""
    held = f"{given.hold_out} of train" if given.hold_out else "val"
    known = {
        "name": "CamVid" if is_camvid(given) else given.data,
        "training": len(train),
        "judge": held if is_camvid(given) else "held out",
        "judging": len(judge),
        "classes": list(classes_of(train.data)),
        "model": given.model or (None if given.source else SIZE),
        "from": given.source,
    }
    return known if is_camvid(given) else known | reading(given, train, judge)


def reading(given: argparse.Namespace, train: InMemory, judge: InMemory) -> dict[str, Any]:
    """Say how a folder is read: what its class maps mean, and which pairs of files are learned from and judged by."""
    labels = next(parts_of(train.data)).labels
    return {
        "size": given.size,
        "void": given.void,
        "first": given.first,
        "marks": digest(*sorted(labels.numbers.items()), *sorted(labels.painted.items())),
        "files": digest(*pairs_of(train.data)),
        "held_out": digest(*pairs_of(judge.data)),
    }


def digest(*pairs: tuple[Any, Any]) -> str:
    """Return some digits that stand for pairs of values, paths say, in their order."""
    return hashlib.sha256(json.dumps(pairs, default=Path.as_posix).encode()).hexdigest()[:16]


def check_same(path: Path, description: dict[str, Any]) -> None:
    """Write a training's description, or compare it with that of what was learned there.

    Raises:
        UsersError: another training's folder.
    """
    plain = json.loads(json.dumps(description))
    if path.is_file() and any((path.parent / name).exists() for name in LEARNED):
        there = json.loads(path.read_text(encoding="utf-8"))
        if other := [name for name in ("data", "plan") if differing(there.get(name) or {}, plain[name])]:
            what = ", ".join(sorted({key for name in other for key in differing(there.get(name) or {}, plain[name])}))
            raise UsersError(
                f"{path.parent} holds another training (its {' and '.join(other)} differ in {what}, see {path}); "
                f"choose another --out, or delete it."
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(plain, indent=1).encode())


def differing(there: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return under which names two descriptions differ."""
    names = [name for name in {**there, **now} if name in there or name not in READING]
    return [name for name in names if there.get(name, ...) != now.get(name, ...)]


def model_of(given: argparse.Namespace, plan: Plan, names: tuple[str, ...]) -> Segformer:
    """Return the model that is to learn: fresh, or with weights to start from."""
    torch.manual_seed(given.seed)
    if given.source is None:
        return build_segformer(
            given.model or SIZE, len(names), class_names=names, drop_path=plan.drop_path, dropout=plan.dropout
        )
    if given.source.startswith("nvidia/"):
        tell(LICENCE, sys.stderr)
    model = load_pretrained(given.source, len(names), class_names=names)
    if not isinstance(model, Segformer):
        raise UsersError(f"{given.source} classifies whole images; expected weights with a decoder, or an encoder's.")
    own = {name: getattr(model.config, name) for name in ("dims", "num_layers")}
    if given.model and own != {name: SIZES[given.model][name] for name in own}:
        raise UsersError(
            f"--from {given.source} has dims {own['dims']} and num_layers {own['num_layers']}, which is not --model "
            f"{given.model}; leave --model out."
        )
    return model.train()


@dataclass
class Beside:
    """What is written beside a training: where that fails, on a full disk say, it goes on, and one warning tells it.

    Attributes:
        write: what writes it.
        path: where to.
        calls: how often it was to be written.
        failed: whether it was warned of.
    """

    write: Callable[..., object]
    path: Path
    calls: int = 0
    failed: bool = False

    def __call__(self, *given: Any) -> None:
        self.calls += 1
        try:
            self.write(*given)
        except OSError as error:
            if not self.failed:
                warnings.warn(f"Training goes on without what should be in {self.path}: {error}", stacklevel=3)
            self.failed = True


def best_kept(out: Path, judge: InMemory, names: tuple[str, ...]) -> Callable[[nn.Module, History], None]:
    """Return what is done after each validation: the best model is kept, and some pictures are drawn."""
    best, seen = Beside(save_pretrained, out / "best"), Beside(draw_seen, out / "seen.png")

    def keep(model: nn.Module, history: History) -> None:
        step, found = list(history.validations.items())[-1]
        if found >= max(history.validations.values()):
            best(model, best.path)
        seen(seen.path, model, judge, names)
        tell(f"step {step} of {history.steps}: mIoU {found:.3f}")

    return keep


def draw_seen(path: Path, model: nn.Module, judge: InMemory, names: tuple[str, ...]) -> None:
    """Draw pictures, their class maps, and those that the model sees, side by side."""
    from segformer_edu.pages import plots  # here: matplotlib is slow to import

    places = [round(index * (len(judge) - 1) / max(SHOWN - 1, 1)) for index in range(min(SHOWN, len(judge)))]
    pairs = {}
    for place in places:
        image, mask = judge[place]
        pairs[f"{place}: true"] = (image.float() / 255, mask)
        pairs[f"{place}: predicted"] = (image.float() / 255, segment(model, image))
    colours = getattr(judge.data, "colours", None) or spare_colours(len(names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = plots.contact_sheet(pairs, classes=names, colours=colours)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    write_whole(path, buffer.getvalue())


def tensorboard(out: Path) -> Any:
    """Return TensorBoard's writer, None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(out / "tensorboard"))


def finish(
    out: Path,
    model: Segformer,
    plan: Plan,
    train: InMemory,
    judge: InMemory,
    names: tuple[str, ...],
    description: dict[str, Any],
) -> None:
    """Write the model, judge it, and write the figures."""
    shows = sys.stderr.isatty() and Processes.here().is_first
    if plan.recompute_norms:
        recompute_statistics(model, train, progress=shows)
    ways = {name: evaluate(model, judge, batch_size=2, progress=shows, **way) for name, way in WAYS.items()}
    if not Processes.here().is_first:
        return
    save_pretrained(model, out / "model")
    result = {
        **description,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": Processes.here().count,
        "precision": precision_on(next(model.parameters()).device, plan.recipe.precision),
        "judged": {name: figures(scores, names) for name, scores in ways.items()},
    }
    write_whole(out / "result.json", json.dumps(result, indent=1).encode())
    tell(table(ways["plain"], names))
    tell(ways["plain"].describe(names))
    tell(f"written: {out / 'model'}, {out / 'result.json'}")


COMMAND = Command("train a model on pictures and class maps", USAGE, TEXT, EXAMPLES, add_options, run)
