"""Make the project's environment in `.venv`, with `uv` in it, from a Python 3.11 and nothing else.

Debian's python3 comes without `ensurepip` (it is in python3-venv), so where `python3 -m venv` cannot install pip, pip's
own wheel is fetched from PyPI, checked against the hash below, and run from where it lies. Standard library only: this
runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

UV = "uv==0.13.9"
PIP_WHEEL = "pip-26.0-py3-none-any.whl"
INDEX = "https://pypi.org/simple/pip/"
PIP_SHA256 = "98436feffb9e31bc9339cf369fd55d3331b1580b6a6f1173bacacddcf9c34754"


def main(venv: Path) -> int:
    """Make `venv` and install uv into it; returns the exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it runs on whatever `python3` is
        print(
            f"domicile needs Python 3.11 or later; this is {sys.version.split()[0]} (set PYTHON=...)", file=sys.stderr
        )
        return 2
    python = venv / "bin" / "python"
    with_pip = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, check=False)
    if with_pip.returncode == 0:
        pip = [str(python), "-m", "pip"]
        return subprocess.run([*pip, "install", "--quiet", UV], check=False).returncode
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder) / PIP_WHEEL
        wheel.write_bytes(fetch_pip())
        pip = [str(python), f"{wheel}/pip"]
        return subprocess.run([*pip, "install", "--quiet", UV], check=False).returncode


def fetch_pip() -> bytes:
    """Pip's wheel, as PyPI has it and the hash above says."""
    context = ssl.create_default_context()
    try:
        try:
            wheel = download(wheel_url(context), context)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ssl.SSLCertVerificationError):
                raise
            # A machine without ca-certificates: what makes the wheel trustworthy is the hash, checked below.
            context = ssl._create_unverified_context()  # noqa: S323, SLF001
            wheel = download(wheel_url(context), context)
    except (urllib.error.URLError, LookupError, ValueError) as error:
        raise SystemExit(f"cannot fetch pip from {INDEX} ({error}); or install Debian's python3-venv") from error
    if hashlib.sha256(wheel).hexdigest() != PIP_SHA256:
        raise SystemExit(f"{PIP_WHEEL} is not the file it should be; install Debian's python3-venv instead")
    return wheel


def wheel_url(context: ssl.SSLContext) -> str:
    """Where the index says that the wheel is (PEP 691)."""
    listing = json.loads(download(INDEX, context))
    url: str = {file["filename"]: file["url"] for file in listing["files"]}[PIP_WHEEL]
    if not url.startswith("https://"):
        raise ValueError(f"{url} is not https")
    return url


def download(url: str, context: ssl.SSLContext) -> bytes:
    """What is at a URL; of an index, its JSON form."""
    request = urllib.request.Request(url, headers={"Accept": "application/vnd.pypi.simple.v1+json, */*;q=0.1"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:  # noqa: S310 - https, above
        data: bytes = answer.read()
    return data


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
