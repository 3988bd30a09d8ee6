"""What is held out: groups whole or not at all, the same again, and neither side empty."""

from __future__ import annotations

import pytest

from segformer_edu.data import hold_out

NAMES = [f"plant{plant:02}-{view}.jpg" for plant in range(10) for view in range(3)]


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together(seed):
    train, held = hold_out(NAMES, 0.3, r"plant\d+", seed)
    assert sorted(train + held) == list(range(30))
    plants = [{NAMES[index][:7] for index in side} for side in (train, held)]
    assert not plants[0] & plants[1]
    assert (len(plants[1]), len(held)) == (3, 9)


def test_without_groups_each_item_is_on_its_own():
    train, held = hold_out(["same"] * 10, 0.3)
    assert (len(train), len(held)) == (7, 3)
    assert sorted(train + held) == list(range(10))


def test_the_seed_decides():
    assert hold_out(NAMES, 0.3, seed=1) == hold_out(NAMES, 0.3, seed=1) != hold_out(NAMES, 0.3, seed=2)


@pytest.mark.parametrize("share", [0.01, 0, 1])
def test_no_side_is_empty(share):
    with pytest.raises(ValueError, match=rf"Of 10 groups, a share of {share} .*expected one at least"):
        hold_out(NAMES, share, r"plant\d+")


def test_a_name_without_a_group():
    with pytest.raises(ValueError, match=r"'leaf.jpg'.*finds nothing"):
        hold_out([*NAMES, "leaf.jpg"], 0.3, r"plant\d+")
