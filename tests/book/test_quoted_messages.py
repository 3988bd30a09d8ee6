"""The messages on the page of troubles: the code in each block makes its mistake, and the page shows what is said."""

from __future__ import annotations

import re
from pathlib import Path

import messages
import pytest
from bs4 import BeautifulSoup
from pages import HTML

PAGE = Path(__file__).resolve().parents[2] / "book" / "troubleshooting.md"
MISTAKES = re.findall(r"^```\{message\}\n(.+?)^```$", PAGE.read_text(), re.M | re.S)


def test_every_mistake_is_on_the_page_with_its_message():
    page = BeautifulSoup((HTML / "book" / "troubleshooting.html").read_text(), "html.parser")
    shown = [" ".join(block.text.split()) for block in page.select(".message")]
    assert len(shown) == len(MISTAKES) > 40
    assert shown == [messages.message_of(code) for code in MISTAKES]


def test_nothing_else_is_quoted():
    assert "```text" not in PAGE.read_text()


def test_a_mistake_that_goes_unnoticed_stops_the_build():
    with pytest.raises(ValueError, match="Nothing goes wrong here"):
        messages.message_of("small()(torch.zeros(1, 3, 32, 32))")


def test_folders_and_long_lists_are_cut():
    said = messages.message_of("raise OSError(f'{place}/x holds ' + '\"a\", \"b\", \"c\"' + ' and more' * 100)")
    assert said.startswith('OSError: …/x holds "a", … and more')
    assert said.endswith(" …")
    assert len(said) <= messages.LONGEST + 2
