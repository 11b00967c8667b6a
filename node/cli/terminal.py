"""What may reach a terminal: words from files and other machines, without the characters that would steer it."""

from __future__ import annotations


def plain(text: str) -> str:
    """Return a text with `?` for every character that a terminal would obey or hide instead of showing it."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
