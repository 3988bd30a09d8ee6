"""Chapter 4: the Mix-FFN."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from segformer_edu.checks.attention import Memory, forgets, is_norm, normalises
from segformer_edu.checks.core import Failure, Look, close, exercise, random
from segformer_edu.checks.numbers import Quantity, predictions, puzzle_of, which

# What the exercises share: where the non-linearity stands, and which one it is

GELUS: dict[str, str] = {
    "gelu-too-early": "The non-linearity judges single pixels, and the neighbours are averaged afterwards. What should "
    "it judge: a pixel, or what a filter found in a neighbourhood?",
    "gelu-twice": "There are two non-linearities. Behind which of the layers is there one?",
    "gelu-missing": "Twice the input gives twice the result, but for the biases. How many matrices would do the same?",
    "gelu-too-late": "The non-linearity is the last step. Which layer should come behind it?",
    "approximate-gelu": "The values are close, and not equal. Of the two formulas of this non-linearity, which one "
    "is exact?",
    "other-activation": "The layers are right, and the non-linearity between them is another one. What is its smallest "
    "value, and where?",
    "residual-inside": "With all weights zero the input comes out. Who adds it to the result, and is it asked for?",
    "only-square": "A square map goes through, another one does not. Which line takes the height for the width?",
    "rows-and-columns": "Neighbours are right in a square map alone. In which order do a map's sizes stand?",
    "size-written-down": "It runs for one size of the map, and not for others. Which number is written down in place "
    "of an argument?",
    "norm-inside": "There is a norm inside. Who puts a norm in front of the layer?",
    "tokens-not-turned": "A pixel's channels end up in several pixels. Which axis runs fastest in a list of tokens, "
    "and which one in a map?",
    "padding-not-zeros": "Inside all is right; at the border something other than zeros was added. Which padding tells "
    "the places apart?",
}
ACTIVATIONS: tuple[tuple[str, Callable[[torch.Tensor], torch.Tensor]], ...] = (
    ("approximate-gelu", lambda t: F.gelu(t, approximate="tanh")),
    *(
        ("other-activation", function)
        for function in (
            F.relu, F.silu, F.relu6, F.leaky_relu, F.elu, torch.tanh, torch.sigmoid, F.softplus, F.mish, F.hardswish,
            F.selu, lambda t: F.leaky_relu(t, 0.1), lambda t: F.leaky_relu(t, 0.2), lambda t: t * (1.702 * t).sigmoid(),
            torch.abs, torch.square, lambda t: F.softmax(t, 1),
        )
    ),
)  # fmt: skip

# 4.1

LAYER = {kind: hint for kind, hint in GELUS.items() if kind != "size-written-down"} | {
    "padded-too-early": "The border is added to the narrow map. What does the widening make of zeros?",
    "gelu-between-the-parts": "The non-linearity stands inside the separable convolution. Which two of its parts "
    "belong together without a non-linearity between them?",
    "padding-missing": "The map loses its outermost rows and columns. What stands beyond the border?",
    "second-window": "More than one layer looks at neighbours. Which windows do the widening and the narrowing need?",
    "hidden-width": "The layers are of the right kinds, and the middle has another width. What is multiplied "
    "by what to get it?",
    "pointwise-missing": "The 3×3 sees its own channel alone, as in the paper's network. What does the sketch's "
    "separable convolution do besides?",
    "dense-middle": "The middle has many times the weights it needs. How many channels should one 3×3 filter see?",
    "middle-missing": "No pixel sees its neighbours. What stands in the middle, where the map is widest?",
    "middle-before-widening": "The 3×3 works on the narrow map. Where is the map widest?",
    "biases-missing": "An input of zeros gives zeros, or the biases are too few. Which layers have a bias here?",
    "parameters": "Count the weights and biases of the four layers on paper, then those of your module. Which one has "
    "another number?",
    "middle-added": "What goes into the middle is added to what comes out of it. Who asked for that?",
    "parts-exchanged": "The separable convolution mixes the channels first and looks around afterwards. Which comes "
    "first?",
    "window-too-large": "A changed number reaches further than its eight neighbours. How often does the network look "
    "around?",
    "arguments-fixed": "For other sizes it is not the same network. Which number is written down in place of an "
    "argument?",
}
DIM, FACTOR, HIDDEN = 5, 3, 15
Weights = dict[str, torch.Tensor]
Layers = tuple[Any, Any, Any]


def _middle(t: torch.Tensor, w: Weights, padding: str, exchanged: bool, between: Any) -> torch.Tensor:
    """The separable convolution, in the right order or not."""

    def look_around(t: torch.Tensor) -> torch.Tensor:
        mode = "constant" if padding == "zeros" else padding
        return F.conv2d(F.pad(t, (1, 1, 1, 1), mode=mode), w["D"], w["bd"], groups=len(w["D"]))

    def mix(t: torch.Tensor) -> torch.Tensor:
        return F.conv2d(t, w["P"], w["bp"])

    return look_around(between(mix(t))) if exchanged else mix(between(look_around(t)))


def _same(t: torch.Tensor) -> torch.Tensor:
    return t


def _normed(t: torch.Tensor) -> torch.Tensor:
    """A map with each pixel's channels normalised."""
    return F.layer_norm(t.movedim(1, -1), t.shape[1:2]).movedim(-1, 1)


def _network(
    x: torch.Tensor,
    w: Weights,
    *,
    first: Any = _same,
    between: Any = _same,
    act: Any = F.gelu,
    last: Any = _same,
    before: Any = _same,
    added: bool = False,
    padding: str = "zeros",
    exchanged: bool = False,
    around: str = "",
) -> torch.Tensor:
    """The Mix-FFN with these weights, right or with a known mistake."""
    if around == "padded":
        x = F.pad(x, (1, 1, 1, 1))
    t = first(F.conv2d(before(x), w["W1"], w["b1"]))
    shape, beside = t.shape, t if added else 0
    if around == "columns":
        t = t.reshape(*shape[:2], shape[3], shape[2])
    if around in ("tokens", "tokens, there"):
        t = t.flatten(2).mT.reshape(shape)
    t = _middle(t, w, padding, exchanged, between)
    if around == "padded":
        t = t[..., 1:-1, 1:-1]
    if around == "columns":
        t = t.reshape(shape)
    if around in ("tokens", "tokens, back"):
        t = t.reshape(len(t), -1, shape[1]).mT.reshape(shape)
    made: torch.Tensor = last(F.conv2d(act(t + beside), w["W2"], w["b2"]))
    return made


def _hows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Known mistakes, as arguments of _network."""
    yield "gelu-too-early", {"first": F.gelu, "act": _same}
    yield "gelu-between-the-parts", {"between": F.gelu, "act": _same}
    yield "gelu-missing", {"act": _same}
    yield "gelu-too-late", {"act": _same, "last": F.gelu}
    for place in ("first", "between", "last"):
        yield "gelu-twice", {place: F.gelu}
    yield "gelu-twice", {"before": F.gelu}
    yield "gelu-too-early", {"before": F.gelu, "act": _same}
    yield "middle-added", {"added": True}
    yield "parts-exchanged", {"exchanged": True}
    yield "rows-and-columns", {"around": "columns"}
    for around in ("tokens", "tokens, there", "tokens, back"):
        yield "tokens-not-turned", {"around": around}
    yield "padded-too-early", {"around": "padded"}
    for place in ("first", "between", "last"):
        yield "norm-inside", {place: _normed}
    for padding in ("reflect", "replicate", "circular"):
        yield "padding-not-zeros", {"padding": padding}
    for kind, function in ACTIVATIONS:
        yield kind, {"act": function}
    for function in (F.relu, F.silu):
        yield "gelu-too-early", {"first": function, "act": _same}
        for place in ("before", "first", "between", "last"):
            yield "gelu-twice", {place: function}


def _readings(module: nn.Module, C: int, h: int) -> list[Weights]:
    """Return the weights read out of the module by their sizes, in each way they may be meant; none if that fails."""
    owners = {id(p): part for part in module.modules() for p in part.parameters(recurse=False)}
    sizes: dict[int, list[nn.Parameter]] = {}
    for p in module.parameters():
        sizes.setdefault(p.numel(), []).append(p)
    wanted = {C * h: 2, h: 3, 9 * h: 1, h * h: 1, C: 1}
    if {size: len(found) for size, found in sizes.items()} != wanted:
        return []

    def turned(p: nn.Parameter, rows: int) -> list[torch.Tensor]:
        matrix = p.detach().reshape(p.shape[0], -1) if p.dim() != 2 else p.detach()
        if matrix.shape[0] != rows:
            matrix = matrix.T
        free = rows == matrix.shape[1] and not isinstance(owners[id(p)], nn.Linear | nn.modules.conv._ConvNd)
        return [m[:, :, None, None] for m in ([matrix, matrix.T] if free else [matrix])]

    found = []
    narrow_first = [p for p in sizes[C * h] if p.shape[0] == C and p.dim() != 2]
    pairs = list(itertools.permutations(sizes[C * h]))
    if narrow_first:
        pairs = [pair for pair in pairs if pair[0].shape[0] == h]
    for (one, two), biases, P in itertools.product(pairs, itertools.permutations(sizes[h]), turned(sizes[h * h][0], h)):
        b1, bd, bp = (b.detach().flatten() for b in biases)
        D = sizes[9 * h][0].detach()
        windows = [D.reshape(h, 1, 3, 3)] if D.shape[0] == h else [D.reshape(9, h).T.reshape(h, 1, 3, 3)]
        for window in windows:
            found.append(
                {"W1": turned(one, h)[0], "W2": turned(two, C)[0], "D": window, "P": P}
                | {"b1": b1, "bd": bd, "bp": bp, "b2": sizes[C][0].detach().flatten()}
            )
    return found


@exercise("MixFeedForward", LAYER)
def mix_feed_forward(look: Look, answer: Any) -> None:
    """Check `MixFeedForward(*, dim, expansion_factor)`, a class."""
    look.exists(answer)
    module = look.construct(answer, dim=DIM, expansion_factor=FACTOR)
    look.done("constructed")
    x = 2 * random(2, DIM, 7, 11)
    if isinstance(failed := look.attempt(module, x), Failure):
        square = look.attempt(module, 2 * random(2, DIM, 9, 9))
        if isinstance(square, torch.Tensor):
            look.wrong("only-square", f"For a map of 7×11: {failed}")
    yours = look.output(module, x)
    look.done("runs, float64 stays float64")
    look.shape(yours, x.shape, wrong={"padding-missing": (2, DIM, 5, 9)})
    look.done("shape")
    if norms := [type(part).__name__ for part in module.modules() if is_norm(part) and part is not module]:
        look.wrong("norm-inside", f"There is a layer of the class {norms[0]}.")
    look.side_effects(module, x)
    look.pictures_apart(module, x)
    forgets(look, module, look.construct(answer, dim=DIM, expansion_factor=FACTOR), random(1, DIM, 4, 6))
    look.same_in_eval(module, x)
    look.done("no side effects")
    fitting: Weights = {}
    for words, part in {
        "number of parameters": lambda: _counted(look, module),
        "nothing added": lambda: _silent(look, module, x),
        "values": lambda: fitting.update(_compared(look, module, x, DIM, HIDDEN)),
        "gradients": lambda: look.gradients(module, x, like=lambda t: _network(t, fitting)),
        "other widths and maps": lambda: _elsewhere(look, answer),
    }.items():
        part()
        look.done(words)


def _parameters(C: int, h: int, middle: str) -> int:
    middles = {"separable": 9 * h + h + h * h + h, "depthwise": 10 * h, "dense": 9 * h * h + h, "none": 0}
    return 2 * C * h + h + C + middles[middle]


def _counted(look: Look, module: nn.Module) -> None:
    """Say what another number of parameters means."""
    C, h, count = DIM, HIDDEN, sum(p.numel() for p in module.parameters())
    expected = _parameters(C, h, "separable")
    if count == expected:
        return
    seen = f"With {C} channels and expansion {FACTOR}: {count} parameters; {expected} are enough."
    for middle, kind in {"depthwise": "pointwise-missing", "dense": "dense-middle", "none": "middle-missing"}.items():
        if count == _parameters(C, h, middle):
            look.wrong(kind, seen)
    if count in (2 * C * h + h + C + 10 * C, 2 * C * h + h + C + 10 * C + C * C + C):
        look.wrong("middle-before-widening", seen)
    lacking = {sum(some) for n in range(1, 5) for some in itertools.combinations((h, h, h, C), n)}
    for middle, kind in {"separable": "biases-missing", "depthwise": "pointwise-missing"}.items():
        if _parameters(C, h, middle) - count in lacking:
            look.wrong(kind, seen)
    if count - expected in (8 * C * h, 16 * C * h, 10 * h, 11 * h + h * h, 9 * h + h * h):
        look.wrong("second-window", seen)
    widths = [w for w in range(1, 200) if w != h for m in ("separable", "depthwise") if _parameters(C, w, m) == count]
    look.wrong("hidden-width" if widths else "parameters", seen)


def _silent(look: Look, module: nn.Module, x: torch.Tensor) -> None:
    """With all weights zero the result is zero."""
    kept = [p.detach().clone() for p in module.parameters()]
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
        y = look.output(module, x).detach()
        for p, value in zip(module.parameters(), kept):
            p.copy_(value)
    if bool((y.abs() > 1e-12).any()):
        look.wrong("residual-inside", f"With all weights zero the largest number is {float(y.abs().max()):.4g}.")


def _compared(look: Look, module: nn.Module, x: torch.Tensor, C: int, h: int) -> Weights:
    """Compare with the network that has the reader's own weights, right and with each known mistake; return these."""
    yours, readings = look.output(module, x).detach(), _readings(module, C, h)
    for weights in readings:
        if close(yours, _network(x, weights)):
            return weights
    for (kind, how), weights in itertools.product(_hows(), readings):
        if close(yours, _network(x, weights, **how)):
            look.wrong(kind, "With your weights, the result is the one that this mistake gives, to the last digits.")
    if normalises(look, module, x):
        look.wrong("norm-inside", "Three times the map, and five more, gives the same result.")
    if any(_bends(module, x, weights, h) for weights in readings):
        look.wrong("other-activation", "What comes out of the middle is a function of each number, and not the GELU.")
    if _reach(look, module, C) > 1:
        look.wrong("window-too-large", "A changed number reaches pixels outside of the 3×3 around it.")
    if not readings:
        look.wrong("cannot-place", "The parameters are as many as they should be, and not those of the four layers.")
    look.values(yours, _network(x, readings[0]))
    return readings[0]


@torch.no_grad()
def _bends(module: nn.Module, x: torch.Tensor, w: Weights, h: int) -> bool:
    """Whether the module is narrow(g(middle(widen(x)))) for some function g of each number."""
    yours = module(x) - w["b2"][:, None, None]
    t = _middle(F.conv2d(x, w["W1"], w["b1"]), w, "zeros", False, _same)
    edges = torch.linspace(float(t.min()), float(t.max()), 33, dtype=t.dtype)
    hats = (1 - (t[..., None] - edges).abs() / (edges[1] - edges[0])).clamp(min=0)  # g as a broken line of 33 values
    design = torch.einsum("oi,bihwe->bohwe", w["W2"][:, :, 0, 0], hats).flatten(0, 3)
    fitted = design @ torch.linalg.lstsq(design, yours.flatten()[:, None]).solution
    return close(fitted[:, 0], yours.flatten(), 0.03)


def _reach(look: Look, module: nn.Module, C: int) -> int:
    """How many pixels away a changed pixel is noticed."""
    x = random(1, C, 9, 9)
    touched = x.clone()
    touched[..., 4, 4] += 1
    moved = (look.output(module, touched) - look.output(module, x)).detach().abs().amax((0, 1)) > 1e-12
    rows, columns = moved.nonzero().T
    return int(torch.cat([(rows - 4).abs(), (columns - 4).abs(), torch.zeros(1)]).max())


def _elsewhere(look: Look, answer: Any) -> None:
    """Other widths, and a map of a single row."""
    for dim, factor, height, width in ((7, 2, 1, 5), (4, 5, 6, 3)):
        told = f"{dim} channels, expansion {factor}, a map of {height}×{width}"
        module = look.construct(answer, dim=dim, expansion_factor=factor)
        x = random(2, dim, height, width)
        if isinstance(failed := look.attempt(module, x), Failure):
            look.wrong("arguments-fixed", f"{told}: {failed}")
        yours = look.output(module, x).detach()
        look.shape(yours, x.shape, told)
        readings = _readings(module, dim, dim * factor)
        if not any(close(yours, _network(x, weights)) for weights in readings):
            look.wrong("arguments-fixed", told)


# 4.2

CHANGED = "After the call the layers are others than before. What does it write into them?"
TOKENS = GELUS | {
    "changes-the-layers": CHANGED,
    "mixed-twice": "A token depends on tokens two steps away. How often is the 3×3 to look around?",
    "map-turned": "The map lies on its side, so that each window meets it turned. Which letter comes last in a map, "
    "and which one runs faster in the list?",
    "padding-missing": "There are fewer tokens than before. Which settings of a layer are lost when its weights "
    "alone are used?",
    "middle-added": LAYER["middle-added"],
    "read-by-columns": "Tokens are read, or written back, column by column. In which order do they stand in the list?",
    "bias-forgotten": "Tokens of zeros show it: one of the layers is used without all that it owns. Which "
    "one do you not call as it is?",
    "not-turned-back": "The map is right, and what becomes of it is not. Which axis must be last in a list of tokens?",
    "mix-missing": "No token depends on its neighbours. Which of the three layers is never called?",
    "still-a-map": "A map comes out. What shape did the tokens have that went in?",
    "second-layer-missing": "The result is as wide as the middle. Which layer makes it narrow again?",
    "width-guessed": "The sizes of the map are given, and others are used. Can they be told from the number of tokens?",
}


def _on_tokens(
    tokens: torch.Tensor, height: int, width: int, layers: Layers, *, act: Any = F.gelu, first: Any = _same,
    last: Any = _same, there: str = "", back: str = "", mixed: int = 1, added: bool = False,
    biases: tuple[float, float, float] = (1, 1, 1),
) -> torch.Tensor:  # fmt: skip
    """The Mix-FFN on tokens (B, N, C), right or with a known mistake."""
    (widen, mix, narrow), lacking = layers, [layer.bias * (1 - share) for layer, share in zip(layers, biases)]
    t = first(widen(tokens) - lacking[0])
    b, n, h = t.shape
    sizes = (width, height) if there == "columns" else (height, width)
    t = t.reshape(b, h, *sizes) if there == "tokens" else t.mT.reshape(b, h, *sizes)
    if there == "turned":
        t = t.reshape(b, h, width, height).mT
    t = t.mT if there == "on its side" else t
    for _ in range(mixed):
        t = mix(t) - lacking[1][:, None, None] + t * added
    t = t.mT if there == "on its side" else t
    if (there == "turned") != (back == "turned"):
        t = t.mT
    t = t.reshape(b, n, h) if back == "tokens" else t.flatten(2).mT
    made: torch.Tensor = last(narrow(act(t)) - lacking[2])
    return made


def _token_hows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Known mistakes, as arguments of _on_tokens."""
    yield "gelu-too-early", {"first": F.gelu, "act": _same}
    yield "gelu-twice", {"first": F.gelu}
    yield "gelu-twice", {"last": F.gelu}
    yield "gelu-missing", {"act": _same}
    yield "gelu-too-late", {"act": _same, "last": F.gelu}
    yield "middle-added", {"added": True}
    yield "mix-missing", {"mixed": 0}
    yield "mix-missing", {"mixed": 0, "act": _same}
    yield "mixed-twice", {"mixed": 2}
    yield "map-turned", {"there": "on its side"}
    for place in ("first", "last"):
        yield "norm-inside", {place: lambda t: F.layer_norm(t, t.shape[-1:])}
    yield "rows-and-columns", {"there": "columns"}
    yield "read-by-columns", {"there": "turned"}
    yield "read-by-columns", {"there": "turned", "back": "turned"}
    yield "read-by-columns", {"back": "turned"}
    for biases in ((0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 0), (0, 1, 0)):
        yield "bias-forgotten", {"biases": biases}
    yield "tokens-not-turned", {"there": "tokens"}
    yield "tokens-not-turned", {"there": "tokens", "back": "tokens"}
    yield "not-turned-back", {"back": "tokens"}
    for kind, function in ACTIVATIONS:
        yield kind, {"act": function}


@exercise("mix_on_tokens", TOKENS)
def mix_on_tokens(look: Look, answer: Any) -> None:
    """Check `mix_on_tokens(tokens, height, width, widen, mix, narrow)`, a function."""
    look.exists(answer)
    torch.manual_seed(3)
    layers = (
        nn.Linear(5, 8).double(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8).double(),
        nn.Linear(8, 5).double(),
    )
    tokens = 3 * random(2, 21, 5)
    told = "mix_on_tokens(float64 (2, 21, 5), 3, 7, Linear, Conv2d, Linear)"

    def on(t: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return look.output(answer, t, height, width, *layers, told=told)

    _tokens_go_through(look, answer, tokens, layers)
    yours = on(tokens, 3, 7)
    look.done("runs")
    look.shape(
        yours,
        (2, 21, 5),
        wrong={
            "still-a-map": (2, 5, 3, 7),
            "second-layer-missing": (2, 21, 8),
            "not-turned-back": (2, 5, 21),
            "padding-missing": (2, 5, 5),  # of the map, 1×5 is left
        },
    )
    look.done("shape")
    look.side_effects(lambda t: on(t, 3, 7), tokens)
    look.pictures_apart(lambda t: on(t, 3, 7), tokens)
    look.done("no side effects")
    if normalises(look, lambda t: on(t, 3, 7), tokens):
        look.wrong("norm-inside", "Three times the tokens, and five more, give the same result.")
    _tokens_compared(look, yours, tokens, layers)
    look.done("values")
    _other_tokens(look, answer, tokens, layers)
    look.done("other sides, gradient")


def _tokens_go_through(look: Look, answer: Any, tokens: torch.Tensor, layers: Layers) -> None:
    """End where the call fails for reasons that are known, or leaves other layers behind."""
    kept = _as_it_is(layers)
    failed = look.attempt(answer, tokens, 3, 7, *layers)
    if _as_it_is(layers) != kept:
        look.wrong("changes-the-layers", "The layers are other ones after the call.")
    if isinstance(failed, Failure):
        runs = [isinstance(look.attempt(answer, random(1, n * n, 5), n, n, *layers), torch.Tensor) for n in range(1, 9)]
        if any(runs):
            look.wrong("only-square" if all(runs) else "size-written-down", f"For a map of 3×7: {failed}")


def _tokens_compared(look: Look, yours: torch.Tensor, tokens: torch.Tensor, layers: Layers) -> None:
    """Compare with the network, right and with each known mistake."""
    target = _on_tokens(tokens, 3, 7, layers)
    wrong = [(kind, _on_tokens(tokens, 3, 7, layers, **how)) for kind, how in _token_hows()]
    wrong += [("residual-inside", target + tokens)]
    for mode in ("reflect", "replicate", "circular"):
        other = nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode=mode).double()
        other.load_state_dict(layers[1].state_dict())
        wrong += [("padding-not-zeros", _on_tokens(tokens, 3, 7, (layers[0], other, layers[2])))]
    for kind, made in wrong:
        if not close(yours, target) and close(yours, made):
            look.wrong(kind, "The result is the one that this mistake gives, to the last digits.")
    look.values(yours, target)


def _other_tokens(look: Look, answer: Any, tokens: torch.Tensor, layers: Layers) -> None:
    """The same tokens as a map of other sides; the gradient."""
    for height, width in ((7, 3), (21, 1)):
        again = look.attempt(answer, tokens, height, width, *layers)
        if not isinstance(again, torch.Tensor) or not close(again, _on_tokens(tokens, height, width, layers)):
            look.wrong("width-guessed", f"The same tokens as a map of {height}×{width}: another result.")
    leaf = tokens.clone().requires_grad_()
    result = look.output(answer, leaf, 3, 7, *layers)
    weights = [p for layer in layers for p in layer.parameters()]
    target = torch.autograd.grad(_on_tokens(leaf, 3, 7, layers).square().sum(), [leaf, *weights])
    found: tuple[torch.Tensor | None, ...] = (None,) * len(target)
    if result.requires_grad:
        found = torch.autograd.grad(result.square().sum(), [leaf, *weights], allow_unused=True)
    for mine, expected, name in zip(found, target, ("tokens", *("weights",) * len(weights))):
        if mine is None:
            look.wrong("no-gradient", f"No gradient reaches the {name}.")
        if not close(mine, expected):
            look.wrong("wrong-gradient", f"The gradient of the {name} is another one.")


# 4.3


def _sorts(blocks: int, height: int = 12, width: int = 20) -> int:
    return min(2 * blocks + 1, height) * min(2 * blocks + 1, width)


predictions(
    "news",
    title="How far the news of the border travels",
    quantities={
        "sorts after 2 blocks": Quantity(
            _sorts(2),
            {
                "one-border-only": ((2 + 1) ** 2, 2**2),
                "middle-forgotten": (2 * 2) ** 2,
                "one-axis-only": 2 * 2 + 1,
                "one-block-only": _sorts(1),
                "every-pixel": 12 * 20,
                "pixels-for-sorts": (12 * 20 - 8 * 16, 12 * 20 - 8 * 16 + 1),
                "symmetric": (6, 3),
            },
        ),
        "sorts after 7 blocks": Quantity(
            _sorts(7),
            {
                "sheet-too-small": (2 * 7 + 1) ** 2,
                "one-border-only": (7 + 1) ** 2,
                "every-pixel": 12 * 20,
                "middle-forgotten": 12 * 14,
                "one-axis-only": 15,
            },
        ),
        "blocks until every pixel is one of its kind": Quantity(
            10,
            {
                "one-border-only": (20, 19),
                "short-side": 6,
                "one-block-short": 9,
                "both-sides-added": (16, 32),
                "corner-to-corner": 12,
            },
        ),
        "sorts after 2 blocks, two 3×3 in each": Quantity(
            _sorts(4),
            {
                "one-block-only": (_sorts(2), _sorts(3)),
                "middle-forgotten": 8**2,
                "every-pixel": 12 * 20,
                "one-axis-only": 9,
                "sorts-doubled": 2 * _sorts(2),
            },
        ),
        "sorts after 2 blocks, circular padding": Quantity(
            1, {"padding-forgotten": _sorts(2), "blank-is-one-sort": 0, "every-pixel": 12 * 20}
        ),
        "pixels of the image, stage 4, 2 blocks": Quantity(
            2 * 32,
            {
                "pixels-of-the-map": 2,
                "one-block-only": 32,
                "both-sides-of-a-pixel": 5 * 32,
                "stride-of-the-stage": (2 * 2, 2 * 4, 2 * 16, 2 * 8),
                "both-borders": 4 * 32,
            },
        ),
    },
    hints={
        "one-border-only": "News comes from the borders on both sides. Which pixels of a row does it reach first?",
        "middle-forgotten": "The pixels that nothing has reached are all alike. How many sorts are those?",
        "one-axis-only": "So many sorts there are in a row. What else tells pixels apart?",
        "one-block-only": "Each 3×3 carries the news one pixel further. How many of them has it passed?",
        "every-pixel": "That is all the pixels. Do two pixels far from every border differ already?",
        "pixels-for-sorts": "That many pixels have been reached. How many different ones are among them?",
        "symmetric": "A pixel with zeros on its left differs from one with zeros on its right. Are filters symmetric?",
        "sheet-too-small": "There are more sorts than rows in that count. How many rows has the sheet?",
        "short-side": "In the columns all is told apart by then. What about the rows?",
        "one-block-short": "Two pixels in the middle of a row are still alike. What do they wait for?",
        "both-sides-added": "News travels along rows and along columns in the same step. Do the two times add up?",
        "corner-to-corner": "One side needs more steps than that. From which of its two ends does news come?",
        "sorts-doubled": "What doubles is the way that the news has gone. What does that do to the number of sorts?",
        "padding-forgotten": "What does a pixel at the border see beyond it, when the sheet goes on at the other end?",
        "blank-is-one-sort": "If all pixels are alike, how many sorts are there?",
        "pixels-of-the-map": "That is in pixels of the map. How many pixels of the image is one of those?",
        "stride-of-the-stage": "A pixel of the last map covers more than that. By how much is the image's side "
        "divided in all?",
        "both-sides-of-a-pixel": "So far one pixel sees from end to end. How many of the map's pixels has the news "
        "passed on its way inwards?",
        "both-borders": "How far inwards from one border is asked for. How far is it from each?",
    },
)

# 4.4

_SUSPECTS = ("none", "order", "groups", "padding", "activation", "width")
_FOUND = {
    "a": ("order", "not-the-order", "Write down the layers of A in the order in which they act. What does its "
          "non-linearity judge?"),
    "b": ("padding", "not-the-padding", "Send a blank sheet through B. How many different pixels come out, and how "
          "many should?"),
    "c": ("none", "nothing-wrong-with-c", "Send a map through C and through the class of the chapter with the same "
          "weights. Do they differ?"),
    "d": ("activation", "not-the-activation", "Add two inputs before D, and two results behind it. Are they equal, "
          "but for the biases?"),
    "e": ("groups", "not-the-groups", "Print the shape of each weight of E. Which one is larger than in the chapter?"),
}  # fmt: skip

predictions(
    "network bugs",
    title="Five networks",
    quantities=which(_FOUND, _SUSPECTS),
    hints={kind: hint for _, kind, hint in _FOUND.values()},
)

# 4.5

SLICES = {
    "wide-map": "The wide map exists as a whole. At which line are all hidden channels there at once?",
    "slices-kept": "Each slice is small, and all of them are kept. What must be left of a slice once it is narrowed?",
    "results-kept": "Each slice leaves a narrow map, and all of these are kept until the end. Into what could each go "
    "at once?",
    "size-ignored": "More hidden channels are made at once than the size allows. What is the size the number of?",
    "bias-of-each-slice": "A bias is added as often as there are slices. Which of the three layers adds it once?",
    "last-bias-forgotten": "With an input and weights of zero, something should come out. Which layer's bias is left "
    "out?",
    "hidden-bias-forgotten": "A bias of the hidden channels is left out. Which layers own as many biases as there are "
    "hidden channels?",
    "last-slice-lost": "Some hidden channels never count. What becomes of a last slice that is not full?",
    "channels-lost": "In each slice some hidden channels never count. Is the end of a slice its last channel, or the "
    "one behind it?",
    "channels-twice": "Some hidden channels count twice. Where does a slice begin, and where has the one before it "
    "ended?",
    "later-channels-lost": "The first hidden channels count, and the later ones do not. Of which layer is the "
    "number of channels that the slices go through?",
    "one-slice-only": "A single slice counts. What is kept from the slices before?",
    "mean-for-sum": "The slices' results are averaged. What does a matrix product do with its terms?",
    "wrong-channels": "The hidden channels of one layer meet those of another slice. Which numbers of each weight "
    "belong to a slice?",
    "gelu-missing": "The non-linearity is lost. On which map does it act, and is it there in each slice?",
    "gelu-of-the-sum": "The non-linearity acts on the narrow map. On which one should it?",
    "added-to-the-input": "The result is right but for the map that went in. Who adds it, and is it asked for?",
    **{kind: GELUS[kind] for kind in ("approximate-gelu", "other-activation", "gelu-too-early", "gelu-twice")},
    "padding-missing": "The map loses its border. Which settings of the depthwise layer are lost with its slice?",
    "size-must-divide": "It runs where the size divides the hidden width, and only there. How wide is the last slice?",
    "changes-the-layers": CHANGED,
}


def _sliced(
    x: torch.Tensor, layers: Layers, size: int, *, act: Any = F.gelu, bias: str = "once", biases: str = "all",
    first: Any = _same, last: Any = _same, each: Any = _same, added: bool = False,
) -> torch.Tensor:  # fmt: skip
    """The depthwise Mix-FFN in slices of its hidden channels, right or with a known mistake."""
    widen, depthwise, narrow = layers
    h, parts = widen.out_channels, []
    for start in range(0, h, size):
        cut = slice(start, min(start + size, h))
        t = F.conv2d(x, widen.weight[cut], widen.bias[cut] if biases != "first" else None)
        t = F.conv2d(
            first(t),
            depthwise.weight[cut],
            depthwise.bias[cut] if biases != "second" else None,
            padding=1,
            groups=t.shape[1],
        )
        parts.append(each(F.conv2d(act(t), narrow.weight[:, cut])))
    total: torch.Tensor = sum(parts[1:], parts[0])
    if bias == "inside":
        return last(total + narrow.bias[:, None, None])  # type: ignore[no-any-return]
    made: torch.Tensor = last(total) if bias == "none" else last(total) + narrow.bias[:, None, None]
    return made + x if added else made


def _slice_hows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Known mistakes, as arguments of _sliced."""
    yield "hidden-bias-forgotten", {"biases": "first"}
    yield "hidden-bias-forgotten", {"biases": "second"}
    yield "gelu-missing", {"act": _same}
    yield "gelu-of-the-sum", {"act": _same, "last": F.gelu}
    yield "gelu-of-the-sum", {"act": _same, "last": F.gelu, "bias": "inside"}
    yield "gelu-twice", {"last": F.gelu, "bias": "inside"}
    yield "gelu-twice", {"first": F.gelu}
    yield "gelu-too-early", {"first": F.gelu, "act": _same}
    yield "added-to-the-input", {"added": True}
    for bias in ("once", "none"):
        yield "gelu-of-the-sum", {"act": _same, "each": F.gelu, "bias": bias}


def _times_counted(yours: torch.Tensor, x: torch.Tensor, layers: Layers) -> list[float]:
    """Say how often each hidden channel counts in the result, and the last bias; nothing where that is not all."""
    widen, depthwise, narrow = layers
    hidden = F.gelu(depthwise(widen(x)))
    shares = torch.einsum("oi,bihw->ibohw", narrow.weight[:, :, 0, 0], hidden).flatten(1)
    bias = narrow.bias[:, None, None].expand_as(yours).reshape(1, -1)
    design = torch.cat([shares, bias]).T
    times = torch.linalg.lstsq(design, yours.reshape(-1, 1)).solution
    return [round(float(t), 6) for t in times.flatten()] if close(design @ times, yours.reshape(-1, 1)) else []


def _counted_kind(times: list[float], size: int) -> str:
    """Return what is wrong with how often each hidden channel counts, and the last bias, or "" where that is all."""
    if not times or min(times) == max(times) > 1:
        return ""
    *channels, bias = times
    heard = [index for index, count in enumerate(channels) if count]
    if max(channels) > 1:
        return "channels-twice"
    if len(heard) == len(channels):
        if min(channels) < 1:
            return "mean-for-sum"
        return "bias-of-each-slice" if bias > 1 else "last-bias-forgotten"
    if heard == list(range(len(channels) - len(channels) % size)):
        return "last-slice-lost"
    if len({index // size for index in heard}) < 2 and len(heard) in (size, len(channels) % size):
        return "one-slice-only"
    return "later-channels-lost" if heard == list(range(len(heard))) else "channels-lost"


@exercise("mix_in_slices", SLICES)
def mix_in_slices(look: Look, answer: Any) -> None:
    """Check `mix_in_slices(x, widen, depthwise, narrow, size)`: a Mix-FFN without its wide map."""
    look.exists(answer)
    torch.manual_seed(4)
    layers = (
        nn.Conv2d(3, 14, 1).double(),
        nn.Conv2d(14, 14, 3, padding=1, groups=14).double(),
        nn.Conv2d(14, 3, 1).double(),
    )
    x = 3 * random(2, 3, 5, 7)
    kept = _as_it_is(layers)
    yours = look.output(answer, x, *layers, 2)
    if _as_it_is(layers) != kept:
        look.wrong("changes-the-layers", "The layers are other ones after the call.")
    look.shape(yours, x.shape, wrong={"padding-missing": (2, 3, 3, 5)})
    look.done("runs, shape")
    look.side_effects(lambda t: look.output(answer, t, *layers, 2), x)
    _slices_compared(look, yours, x, layers, 2)
    look.done("seven slices")
    for size in (4, 7, 14, 20, 1):
        again = look.attempt(answer, x, *layers, size)
        if isinstance(again, Failure) and 14 % size:
            look.wrong("size-must-divide", f"14 hidden channels, {size} at a time: {again}")
        _slices_compared(look, look.output(answer, x, *layers, size), x, layers, size)
    look.done("sizes that do not divide, and larger than all")
    if not yours.requires_grad:
        look.remark(
            "No gradient can be taken through your result. To take one, PyTorch would have to keep every slice."
        )
    _sliced_memory(look, answer)
    look.done("memory")


def _as_it_is(layers: Layers) -> list[Any]:
    """Return all that a call may not change in the layers."""
    weights = [p for layer in layers for p in layer.parameters()]
    return [[repr(layer) for layer in layers], [(id(p), p.requires_grad, p.tolist()) for p in weights]]


def _slices_compared(look: Look, yours: torch.Tensor, x: torch.Tensor, layers: Layers, size: int) -> None:
    with torch.no_grad():
        target, at = _sliced(x, layers, 14), f"14 hidden channels, {size} at a time"
        if not close(yours, target):
            times = _times_counted(yours, x, layers) if yours.shape == target.shape and yours.isfinite().all() else []
            if kind := _counted_kind(times, size):
                look.wrong(kind, f"{at}: the channels, and the last bias, count {times} times.")
            for kind, how in _slice_hows():
                if close(yours, _sliced(x, layers, size, **how)):
                    look.wrong(kind, f"The result is the one that this mistake gives ({at}).")
            for kind, function in ACTIVATIONS:
                if close(yours, _sliced(x, layers, size, act=function)):
                    look.wrong(kind, f"The result is the one that this mistake gives ({at}).")
            if yours.shape == target.shape and not times and size < 14 and not close(yours, target, 1e-3):
                look.wrong("wrong-channels", f"{at}: another result comes out.")
        look.values(yours, target, at=at)


def _sliced_memory(look: Look, answer: Any) -> None:
    """Neither the wide map nor all its slices: 60 hidden channels, 4 at a time, a map of 20×20."""

    def watched(hidden: int) -> Memory:
        layers = (
            nn.Conv2d(2, hidden, 1).double(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden).double(),
            nn.Conv2d(hidden, 2, 1).double(),
        )
        memory = Memory()
        with memory, torch.no_grad():
            look.output(answer, random(1, 2, 20, 20), *layers, 4)
        return memory

    memory, twice = watched(60), watched(120)
    seen = f"With 60 hidden channels, 4 at a time, on 400 pixels, the largest tensor has {memory.largest} numbers"
    if memory.largest >= 60 * 400:
        look.wrong("wide-map", f"{seen}, as many as the wide map.")
    if memory.joined and memory.largest > 2 * 4 * 400:
        look.wrong("results-kept", f"{seen}; a slice has {4 * 400}.")
    if memory.grown > 4 * 400:
        look.wrong("size-ignored", f"As many as {memory.grown} numbers are made at once; a slice has {4 * 400}.")
    if memory.calls == twice.calls:
        look.wrong("size-ignored", "120 hidden channels take as many operations as 60, though 4 are made at a time.")
    more = twice.peak - memory.peak  # of 15 more slices: 1600 numbers each, or 800 once it is narrowed
    seen = f"With 120 hidden channels in place of 60, {more} numbers more are held at one time"
    if more > 6000:
        look.wrong("slices-kept" if more > 18000 else "results-kept", f"{seen}; a slice has {4 * 400}.")


# Warm-ups

_LIST = 10 * torch.arange(1, 7.0)[:, None] + torch.arange(4.0)  # (6, 4): tens token, ones channel

puzzle_of(
    "map",
    title="From tokens to a map",
    target=lambda: _LIST.T.reshape(4, 2, 3),
    wrong={
        "tokens-not-turned": (
            lambda: _LIST.reshape(4, 2, 3),
            "A token's channels stand in several places. Which axis must change its place before the cut?",
        ),
        "height-for-width": (
            lambda: _LIST.T.reshape(4, 3, 2),
            "There are three rows of two. Which of the sizes is the height?",
        ),
        "rows-and-columns": (
            lambda: _LIST.T.reshape(4, 3, 2).mT,
            "The tokens run down the columns. In which order do they stand in the list?",
        ),
        "channels-last": (
            lambda: _LIST.reshape(2, 3, 4),
            "The numbers are right. In which order does a map have its axes?",
        ),
    },
)

_ONES, _WINDOW = torch.ones(1, 1, 4, 5), torch.ones(1, 1, 3, 3)

puzzle_of(
    "blank",
    title="A blank sheet through a 3×3",
    target=lambda: F.conv2d(_ONES, _WINDOW, padding=1),
    wrong={
        "padding-missing": (lambda: F.conv2d(_ONES, _WINDOW), "The sheet has shrunk. What stands around it?"),
        "padding-not-zeros": (
            lambda: 9 * _ONES,
            "The sheet is still blank. What does a pixel at the border see beyond it?",
        ),
        "averaged": (
            lambda: F.avg_pool2d(_ONES, 3, 1, 1),
            "The numbers are shares of nine. Which weights has the window?",
        ),
        "corners-of-five": (
            lambda: F.conv2d(_ONES, _WINDOW, padding=1) + (F.conv2d(_ONES, _WINDOW, padding=1) == 4).float(),
            "All is right but the corners. How many places of the window lie inside the sheet there?",
        ),
        "corners-of-six": (
            lambda: F.conv2d(_ONES, _WINDOW, padding=1).clamp(min=6),
            "The corners are like the sides. How many sides does a corner touch?",
        ),
        "cross": (
            lambda: F.conv2d(_ONES, torch.tensor([[[[0.0, 1, 0], [1, 1, 1], [0, 1, 0]]]]), padding=1),
            "The window's own corners were left out. How many places has it?",
        ),
        "dilated": (
            lambda: F.conv2d(_ONES, _WINDOW, padding=2, dilation=2),
            "The window skips pixels. Which pixels are the neighbours of one?",
        ),
        "padding-of-ones": (lambda: _ONES, "The sheet came out as it was. What does the window add up?"),
    },
)
