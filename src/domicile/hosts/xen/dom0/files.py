"""Small files, and folders of them."""

import os
from contextlib import suppress
from typing import List


def readable(text: bytes) -> str:
    """Text as it was printed; bytes that are no UTF-8 stay recognisable."""
    return text.decode("utf-8", "backslashreplace")


def read_text(path: str) -> str:
    """A small file's text, "" where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return readable(file.read()).strip()
    except OSError:
        return ""


def write(path: str, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = "%s/.%s.%d" % (os.path.dirname(path), os.path.basename(path), os.getpid())
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.rename(temporary, path)


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def names_in(folder: str) -> List[str]:
    """What is in a folder; guests' own interfaces lead nowhere and are left out."""
    with suppress(OSError):
        return sorted(name for name in os.listdir(folder) if not name.startswith(("vif", "tap")))
    return []
