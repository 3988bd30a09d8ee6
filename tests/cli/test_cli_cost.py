"""``cost``: the library's numbers, and what is wrong usage."""

from __future__ import annotations

import pytest

import segformer_edu as se
from segformer_edu.cli import main


@pytest.mark.parametrize(
    ("variant", "size", "classes"), [("B0", "512 512", 150), ("b5", "640", 150), ("b2", "97 131", 19)]
)
def test_cost_is_the_librarys(run, variant, size, classes):
    code, out, err = run(f"cost {variant} --size {size}" + (f" --classes {classes}" if classes != 150 else ""))
    assert (code, err) == (0, "")
    first, rest = out.split("\n", 1)
    assert first == f"SegFormer-{variant.upper()}, {classes} classes"
    height, width = (int(side) for side in (size.split() * 2)[:2])
    expected = se.cost(getattr(se, f"segformer_{variant.lower()}")(classes), (height, width))
    assert rest == f"{expected}\n"
    assert f"{expected.macs:,}" in rest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cost b6 --size 512", "invalid choice: 'b6'"),
        ("cost b0", "required: --size"),
        ("cost b0 --size 512 --classes none", "no classes of 'none'"),
        ("cost b0 --size 5x", "'5x' is no size"),
    ],
)
def test_wrong_usage_of_cost(capsys, text, message):
    with pytest.raises(SystemExit) as stop:
        main(text.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_cost_of_three_sizes(run):
    code, out, err = run("cost b0 --size 512 512 512")
    assert (code, out) == (1, "")
    assert "--size has 3 numbers; expected one, or height and width." in err
