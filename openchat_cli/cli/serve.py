"""`openchat serve`."""

from __future__ import annotations


def serve() -> None:
    """…"""


def chat() -> None:
    """…"""
