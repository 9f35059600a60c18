"""`python -m domicile`."""

from domicile.cli.main import run

run()
