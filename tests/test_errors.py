"""Errors cross from one process to another as they are."""

import pickle

import pytest

from domicile.errors import BadInput, DomicileError, Halted, NotEnoughMemory


@pytest.mark.parametrize(
    "error",
    [
        BadInput("host.xml", "no such node", "node 3"),
        NotEnoughMemory("web1", 2048, 100, node=1, detail="node 1: 300 MiB promised to others"),
        Halted("stopped by root"),
    ],
)
def test_an_error_is_the_same_in_another_process(error: DomicileError) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)
