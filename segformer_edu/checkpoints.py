"""Published weights in this library's names. Chapter 9 takes it further; so far it reads the sketch's own format."""

from __future__ import annotations
