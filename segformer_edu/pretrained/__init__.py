"""Everybody's weights in this library's models, and back (chapter 9): read → names → convert → load; save.

The weights that NVIDIA published are under a licence of their own, which allows research and evaluation, not commercial
use; files converted from them stay under it. This library holds none of them, and none of NVIDIA's code.
"""
