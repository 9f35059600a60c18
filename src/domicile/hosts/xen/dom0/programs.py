"""Where Dom0's programs are."""

import os


def search_path() -> str:
    """PATH with the administrator's folders, which an SSH session may lack."""
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def in_path(name: str) -> str:
    """Where a program is, "" if it is not there."""
    found = [os.path.join(folder, name) for folder in search_path().split(":")]
    return ([path for path in found if os.access(path, os.X_OK) and not os.path.isdir(path)] or [""])[0]
