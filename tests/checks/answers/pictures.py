"""Answers to the exercises of chapter 13."""

from __future__ import annotations

import random
import re
from fractions import Fraction

import numpy as np
import torch
from catalogue import right, right_value, wrong, wrong_value

from segformer_edu.training import Scores, confusion_matrix

VOID = 255

# 13.1

RUST = {
    "found": 0.75,
    "rightly claimed": 0.6,
    "IoU": 0.5,
    "pixels right": 0.94,
    "pixels right, no rust claimed at all": 0.92,
}
right_value("rust", "numbers", RUST)
right_value("rust", "expressions", RUST | {"found": 60 / (60 + 20), "IoU": Fraction(60, 120)})
right_value("rust", "tensors", RUST | {"pixels right": torch.tensor(940) / 1000, "found": np.float32(0.75)})
for entry, kind, values in (
    ("found", "found-and-claimed-exchanged", (0.6,)),
    ("found", "share-of-all-pixels", (0.06, 0.08)),
    ("found", "missed-not-found", (0.25, 1 / 3)),
    ("found", "iou-instead", (0.5,)),
    ("found", "healthy-counted", (880 / 920,)),
    ("found", "dice-instead", (120 / 180,)),
    ("rightly claimed", "found-and-claimed-exchanged", (0.75,)),
    ("rightly claimed", "share-of-all-pixels", (0.1,)),
    ("rightly claimed", "missed-not-found", (0.4, 2 / 3 + 1e-9)),
    ("IoU", "dice-instead", (2 / 3,)),
    ("IoU", "overlap-counted-twice", (60 / 180,)),
    ("IoU", "mean-of-the-two", (0.675, 0.45)),
    ("IoU", "accuracy-instead", (0.94,)),
    ("found", "per-cent", (75,)),
    ("pixels right", "one-kind-of-mistake", (0.96, 0.98)),
    ("pixels right", "healthy-forgotten", (0.06,)),
    ("pixels right", "rust-forgotten", (0.88,)),
    ("pixels right, no rust claimed at all", "too-large", (0.95,)),
    ("pixels right", "mean-over-classes", ((0.75 + 880 / 920) / 2,)),
    ("pixels right, no rust claimed at all", "claimed-still-wrong", (0.88,)),
    ("pixels right, no rust claimed at all", "wrong-not-right", (0.08,)),
    ("pixels right, no rust claimed at all", "rust-still-right", (1, 0.98)),
    ("pixels right, no rust claimed at all", "healthy-forgotten", (0,)),
):
    for value in values:
        wrong_value("rust", kind, RUST | {entry: value})

# 13.2 Right


def share(prediction, mask):
    known = mask != VOID
    return ((prediction != mask) & known).sum().item() / max(1, known.sum().item())


@right("worst", "sorted with a key")
def by_key(predictions, masks, count):
    found = [share(*pair) for pair in zip(predictions, masks)]
    return sorted(range(len(masks)), key=lambda place: -found[place])[:count]


@right("worst", "a stable argsort of a tensor")
def by_argsort(predictions, masks, count):
    found = torch.tensor([share(*pair) for pair in zip(predictions, masks)], dtype=torch.float64)
    return found.argsort(descending=True, stable=True)[:count]


@right("worst", "the library's Scores")
def by_scores(predictions, masks, count):
    found = []
    for index, (prediction, mask) in enumerate(zip(predictions, masks)):
        scores = Scores(confusion_matrix(prediction, mask, 8))
        found.append((scores.accuracy if (mask != VOID).any() else 1.0, index))
    return [index for _, index in sorted(found)[:count]]


@right("worst", "NumPy, a tuple")
def by_numpy(predictions, masks, count):
    found = [np.mean((p != m)[m != VOID].numpy()) if (m != VOID).any() else 0 for p, m in zip(predictions, masks)]
    return tuple(np.argsort(-np.array(found), kind="stable")[:count])


# 13.2 Wrong


def worst_by(value, chosen=lambda order, count: order[:count]):
    def made(predictions, masks, count):
        found = [value(*pair) for pair in zip(predictions, masks)]
        return chosen(sorted(range(len(masks)), key=lambda place: -found[place]), count)

    return made


def all_wrong(prediction, mask):
    return (prediction != mask).double().mean().item()


def number_wrong(prediction, mask):
    return ((prediction != mask) & (mask != VOID)).sum().item()


def miou(prediction, mask):
    return 1 - Scores(confusion_matrix(prediction, mask, 8)).mean_iou


def of_classes(prediction, mask):
    known = mask != VOID
    each = [(prediction[mask == k] == k).double().mean().item() for k in mask[known].unique()]
    return 1 - sum(each) / max(1, len(each))


def nan_share(prediction, mask):
    known = mask != VOID
    return (prediction != mask)[known].double().mean().nan_to_num(1).item()


def divides(prediction, mask):
    known = mask != VOID
    return int(((prediction != mask) & known).sum()) / int(known.sum())


WORST = {
    "best-first": [worst_by(lambda p, m: -share(p, m)), worst_by(lambda p, m: -number_wrong(p, m))],
    "wrong-end": [worst_by(share, lambda order, count: order[-count:])],
    "rounded": [worst_by(lambda p, m: round(share(p, m), 2)), worst_by(lambda p, m: int(100 * share(p, m)))],
    "rows-for-pixels": [worst_by(lambda p, m: number_wrong(p, m) / len(m)),
                        worst_by(lambda p, m: number_wrong(p, m) / m.shape[1])],
    "ties-lost": [
        lambda predictions, masks, count: [place for _, place in sorted(
            {-share(*pair): place for place, pair in enumerate(zip(predictions, masks))}.items())][:count],
    ],
    "void-is-wrong": [worst_by(all_wrong), worst_by(lambda p, m: (p != m).sum().item())],
    "void-in-the-total": [worst_by(lambda p, m: number_wrong(p, m) / m.numel())],
    "numbers-of-pixels": [worst_by(number_wrong)],
    "by-miou": [worst_by(miou)],
    "mean-over-classes": [worst_by(of_classes)],
    "order-reversed": [worst_by(share, lambda order, count: order[:count][::-1])],
    "not-in-order": [worst_by(share, lambda order, count: sorted(order[:count]))],
    "shares-not-numbers": [
        lambda predictions, masks, count: sorted(map(share, predictions, masks), reverse=True)[:count],
    ],
    "pictures-not-places": [
        lambda predictions, masks, count: [(i, share(predictions[i], masks[i]))
                                           for i in by_key(predictions, masks, count)],
        lambda predictions, masks, count: [masks[i] for i in by_key(predictions, masks, count)],
    ],
    "counts-from-one": [worst_by(share, lambda order, count: [place + 1 for place in order[:count]])],
    "all-of-them": [worst_by(share, lambda order, count: order)],
    "unlabelled-picture": [worst_by(nan_share), worst_by(divides)],
    "count-off-by-one": [worst_by(share, lambda order, count: order[: count + 1]),
                         worst_by(share, lambda order, count: order[1 : count + 1])],
    "class-left-out": [worst_by(lambda p, m: share(p, m.where(m != 0, VOID)))],
    "count-fixed": [worst_by(share, lambda order, count: order[:3])],
    "ties-turned-round": [
        lambda predictions, masks, count: [place for _, place in sorted(
            ((share(*pair), place) for place, pair in enumerate(zip(predictions, masks))), reverse=True)[:count]],
        lambda predictions, masks, count: torch.tensor(
            [share(*pair) for pair in zip(predictions, masks)]).argsort(descending=True)[:count].tolist(),
        lambda predictions, masks, count: np.argsort(
            -np.array([share(*pair) for pair in zip(predictions, masks)]))[:count].tolist(),
        lambda predictions, masks, count: torch.tensor(
            [share(*pair) for pair in zip(predictions, masks)]).topk(count).indices.tolist(),
    ],
    "first-of-all": [lambda predictions, masks, count: list(range(count))],
}  # fmt: skip
for kind, functions in WORST.items():
    for number, function in enumerate(functions):
        wrong_value("worst", kind, function, str(number))


@wrong("worst", "no-return")
def no_list(predictions, masks, count):
    by_key(predictions, masks, count)


@wrong("worst", "changes-input")
def fills_void(predictions, masks, count):
    found = by_key(predictions, masks, count)
    for prediction, mask in zip(predictions, masks):
        prediction[mask == VOID] = VOID
    return found


@wrong("worst", "raises", "could not run")
def stacks(predictions, masks, count):
    wrong_at = torch.stack(predictions) != torch.stack(masks)
    return wrong_at.double().mean((1, 2)).topk(count).indices


# 13.3 Right


def groups_of(names, together):
    groups = []
    for name in names:
        found = re.search(together, name)
        if found is None:
            raise ValueError(f"no group in {name!r}")
        groups.append(found[0])
    return groups


def judged_by(names, groups, sets):
    places = range(len(names))
    return [([i for i in places if groups[i] not in held], [i for i in places if groups[i] in held]) for held in sets]


def folds_with(groups=groups_of, dealt=lambda each, count: [each[k::count] for k in range(count)], made=judged_by):
    def folds(names, together, count):
        found = groups(names, together)
        each = list(dict.fromkeys(found))
        if len(each) < count:
            raise ValueError(f"{len(each)} groups are too few for {count} parts")
        return made(names, found, dealt(each, count))

    return folds


right("folds", "every count-th group")(folds_with())
right("folds", "drawn with a fixed seed, arrays")(
    folds_with(
        dealt=lambda each, count: np.array_split(np.random.RandomState(0).permutation(sorted(each)), count),
    )
)


@right("folds", "a generator with tensors")
def generator(names, together, count):
    groups = groups_of(names, together)
    numbers = {group: place for place, group in enumerate(sorted(set(groups)))}
    if len(numbers) < count:
        raise ValueError("too few groups")
    part = torch.tensor([numbers[group] % count for group in groups])
    for k in range(count):
        yield (part != k).nonzero().flatten(), (part == k).nonzero().flatten()


@right("folds", "tuples of sets, consecutive groups")
def sets(names, together, count):
    groups = groups_of(names, together)
    each = sorted(set(groups))
    if count > len(each):
        raise ValueError("too few groups")
    bounds = [round(k * len(each) / count) for k in range(count + 1)]
    parts = []
    for first, last in zip(bounds, bounds[1:]):
        judge = {i for i, group in enumerate(groups) if group in each[first:last]}
        parts.append((set(range(len(names))) - judge, judge))
    return tuple(parts)


# 13.3 Wrong


def by_picture(names, together, count):
    groups_of(names, together)
    places = list(range(len(names)))
    return [([i for i in places if i % count != k], places[k::count]) for k in range(count)]


def random_pictures(names, together, count):
    groups_of(names, together)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(1)).tolist()
    return [([i for i in order if i not in order[k::count]], order[k::count]) for k in range(count)]


def blocks(names, together, count):
    groups_of(names, together)
    bounds = [round(k * len(names) / count) for k in range(count + 1)]
    return [([i for i in range(len(names)) if not a <= i < b], list(range(a, b))) for a, b in zip(bounds, bounds[1:])]


def first_letters(names, together):
    groups_of(names, together)
    return [name[:8] for name in names]


def by_day(names, together):
    groups_of(names, together)
    return [name[0] for name in names]


def by_view(names, together):
    groups_of(names, together)
    return [name[-5] for name in names]


def neighbours(names, together, count):
    """Groups by runs of equal names, as itertools.groupby makes them."""
    groups = groups_of(names, together)
    if len(set(groups)) < count:
        raise ValueError("too few groups")
    run, part = -1, []
    for before, group in zip([None, *groups], groups):
        run += group != before
        part.append(run % count)
    return [
        ([i for i, p in enumerate(part) if p != k], [i for i, p in enumerate(part) if p == k]) for k in range(count)
    ]


def starts_with(names, groups, held):
    """Finds a group's pictures by the beginning of its name: plant1 is in plant10 as well."""
    parts = []
    for each in held:
        judge = [i for i, name in enumerate(names) if any(group in name for group in each)]
        parts.append(([i for i in range(len(names)) if i not in judge], judge))
    return parts


def drawn(each, count):
    order = [each[i] for i in torch.randperm(len(each)).tolist()]
    return [order[k::count] for k in range(count)]


def seeded(seed, permuted):
    def dealt(each, count):
        seed(0)
        order = [each[int(place)] for place in permuted(len(each))]
        return [order[k::count] for k in range(count)]

    return dealt


SEEDED = (
    (torch.manual_seed, torch.randperm),
    (random.seed, lambda count: random.sample(range(count), count)),
    (np.random.seed, np.random.permutation),
)


def overlapping(each, count):
    return [each[k::count] + each[(k + 1) % count :: count][:1] for k in range(count)]


def lenient(names, together):
    return [found[0] if (found := re.search(together, name)) else name for name in names]


def unguarded(names, together):
    return [re.search(together, name)[0] for name in names]


def too_many(names, together, count):
    groups = groups_of(names, together)
    each = list(dict.fromkeys(groups))
    return judged_by(names, groups, [each[k::count] for k in range(count)])


def only_plants(names, together, count):
    if any(re.search(together, name) is None for name in names):
        raise ValueError("no group")
    groups = [name.split("-")[1] if "-" in name else name[:5] for name in names]
    each = list(dict.fromkeys(groups))
    if len(each) < count:
        raise ValueError("too few groups")
    return judged_by(names, groups, [each[k::count] for k in range(count)])


def as_many_pictures(names, together, count):
    groups = groups_of(names, together)
    each, loads = list(dict.fromkeys(groups)), [[0, k, []] for k in range(count)]
    if len(each) < count:
        raise ValueError("too few groups")
    for group in sorted(each, key=groups.count, reverse=True):
        lightest = min(loads)
        lightest[0] += groups.count(group)
        lightest[2].append(group)
    return judged_by(names, groups, [held for _, _, held in loads])


def first_pictures(names, groups, held):
    return [
        (train, [i for i in judge if groups.index(groups[i]) == i]) for train, judge in judged_by(names, groups, held)
    ]


def grouped(key):
    return folds_with(lambda names, together: [key(name, together) for name in names if groups_of([name], together)])


FOLDS = {
    "group-judges-in-part": [folds_with(made=first_pictures)],
    "case-ignored": [grouped(lambda name, together: re.search(together, name)[0].lower())],
    "part-of-the-match": [grouped(lambda name, together: re.search(together, name)[0].lstrip("plantbc")),
                          grouped(lambda name, together: re.sub("[a-z]", "", re.search(together, name)[0]))],
    "last-match": [grouped(lambda name, together: re.findall(together, name)[-1])],
    "all-matches": [grouped(lambda name, together: "".join(re.findall(together, name)))],
    "group-by-whole-name": [by_picture],
    "leak": [random_pictures],
    "pictures-dealt-evenly": [blocks],
    "appearance-order-needed": [neighbours],
    "prefix-not-group": [folds_with(first_letters), folds_with(by_view)],
    "not-judged": [
        folds_with(dealt=lambda each, count: [each[k * (len(each) // count) : (k + 1) * (len(each) // count)]
                                              for k in range(count)]),
    ],
    "judged-twice": [
        folds_with(dealt=overlapping),
        folds_with(dealt=lambda each, count: [each[k::count] for k in range(count)], made=starts_with),
    ],
    "judges-learned-from": [
        folds_with(made=lambda names, groups, held: [(list(range(len(names))), judge)
                                                     for _, judge in judged_by(names, groups, held)]),
    ],
    "sides-exchanged": [
        folds_with(made=lambda names, groups, held: [part[::-1] for part in judged_by(names, groups, held)]),
    ],
    "training-incomplete": [
        folds_with(made=lambda names, groups, held: [(train[:-1], judge)
                                                     for train, judge in judged_by(names, groups, held)]),
    ],
    "wrong-number-of-parts": [
        folds_with(dealt=lambda each, count: [each[k : k + 1] for k in range(len(each))]),
        folds_with(dealt=lambda each, count: [each[:3]]),
    ],
    "a-side-is-empty": [folds_with(dealt=lambda each, count: [each, *([] for _ in range(count - 1))])],
    "uneven": [
        as_many_pictures,
        folds_with(dealt=lambda each, count: [each[k : k + 1] for k in range(count - 1)] + [each[count - 1 :]]),
    ],
    "names-not-places": [
        folds_with(made=lambda names, groups, held: [
            tuple([names[i] for i in side] for side in part) for part in judged_by(names, groups, held)]),
    ],
    "not-pairs": [folds_with(made=lambda names, groups, held: [j for _, j in judged_by(names, groups, held)])],
    "changes-from-call-to-call": [folds_with(dealt=drawn)],
    "draws-random-numbers": [folds_with(dealt=seeded(*both)) for both in SEEDED],
    "part-without-brackets": [folds_with(lambda names, together: [re.search(together, name)[1] for name in names])],
    "other-in-another-run": [
        folds_with(dealt=lambda each, count: [list(set(each))[k::count] for k in range(count)]),
        folds_with(dealt=lambda each, count: np.array_split(list(set(each)), count)),
        folds_with(dealt=lambda each, count: [list({*each})[k::count] for k in range(count)]),
    ],
    "no-group-passes": [folds_with(lenient)],
    "wrong-error": [folds_with(unguarded)],
    "expression-fixed": [folds_with(lambda names, together: groups_of(names, r"plant\d+"))],
    "too-many-parts": [too_many],
}  # fmt: skip
for kind, functions in FOLDS.items():
    for number, function in enumerate(functions):
        wrong_value("folds", kind, function, str(number))


@wrong("folds", "no-return")
def no_parts(names, together, count):
    folds_with()(names, together, count)


# Warm-up

NUMBERS = torch.tensor([[0, 1, 5], [2, 0, 3]])
right_value("from zero", "bytes that wrap round", NUMBERS.byte() - 1)
for kind, value in {
    "numbers-kept": NUMBERS,
    "below-zero": NUMBERS - 1,
    "void-is-a-class": (NUMBERS - 1).clamp(min=0),
    "classes-not-moved": NUMBERS.masked_fill(NUMBERS == 0, 255),
    "first-class-lost": torch.where(NUMBERS <= 1, 255, NUMBERS - 1),
    "void-moved-too": NUMBERS.masked_fill(NUMBERS == 0, 255) - 1,
    "wrong-direction": torch.where(NUMBERS == 0, 255, NUMBERS + 1),
    "asked-too-late": (NUMBERS - 1).masked_fill(NUMBERS - 1 == 0, 255),
    "condition-inverted": (NUMBERS - 1).masked_fill(NUMBERS > 0, 255),
    "sign-lost": (NUMBERS - 1).abs(),
    "void-is-the-largest": torch.tensor([[5, 0, 4], [1, 5, 2]]),
}.items():
    wrong_value("from zero", kind, value)


# Found by answers that were written from the texts alone --------------------------------------------------------------


def shares_of(predictions, masks):
    known = [mask != 255 for mask in masks]
    wrong = [int((p[k] != m[k]).sum()) for p, m, k in zip(predictions, masks, known)]
    return [mistakes / max(1, int(k.sum())) for mistakes, k in zip(wrong, known)]


@wrong("worst", "unlabelled-picture")
def without_the_unlabelled(predictions, masks, count):
    shares = shares_of(predictions, masks)
    there = [place for place, mask in enumerate(masks) if bool((mask != 255).any())]
    return sorted(there, key=lambda place: -shares[place])[:count]


@wrong("worst", "place-twice")
def found_by_its_share(predictions, masks, count):
    shares = shares_of(predictions, masks)
    return [shares.index(share) for share in sorted(shares, reverse=True)[:count]]


def dealt(names, together, count, rest_to_the_last=False):
    found = [re.search(together, name) for name in names]
    if None in found:
        raise ValueError("no group")
    groups = [match[0] for match in found]
    each = sorted(set(groups))
    if count > len(each):
        raise ValueError("too many parts")
    size, parts = len(each) // count, []
    for part in range(count):
        held = each[part::count]
        if rest_to_the_last:
            held = each[part * size : (part + 1) * size if part < count - 1 else None]
        sides = [[i for i, group in enumerate(groups) if (group in held) == judges] for judges in (False, True)]
        parts.append(tuple(sides))
    return parts


@wrong("folds", "uneven")
def rest_to_the_last(names, together, count):
    return dealt(names, together, count, rest_to_the_last=True)


@wrong("folds", "refused-without-need")
def only_at_the_beginning(names, together, count):
    if any(re.match(together, name) is None for name in names):
        raise ValueError("no group")
    return dealt(names, together, count)


@wrong("folds", "refused-without-need")
def as_many_parts_as_groups_refused(names, together, count):
    if count >= len({match[0] for name in names if (match := re.search(together, name))}):
        raise ValueError("too many parts")
    return dealt(names, together, count)


wrong_value("from zero", "void-is-256", torch.tensor([[256, 0, 4], [1, 256, 2]]))
