"""A host without a simulator: its guests run where they are, and it does as it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from watched import host

from domicile.errors import Halted
from domicile.hosts.actions import Action, Halt, Hold, LetGo, Manage, SetAffinity
from domicile.hosts.protocol import Capabilities, no_progress
from domicile.state.model import Domain, MemoryMapAge, Snapshot, Vcpu

__all__ = ["PlayedHost"]


@dataclass
class PlayedHost:
    """`then` is called with the time (seconds since the start) after each quarter second that was waited."""

    domains: list[Domain]
    then: Callable[[float], None] = lambda _: None
    busy: float = 0.9
    now_s: float = 0.0
    halted: str = ""
    manager: str = ""
    performed: list[Action] = field(default_factory=list)
    maps: list[float] = field(default_factory=list)
    """When a memory map was asked for."""

    uri = "xen:///"

    def capabilities(self) -> Capabilities:
        return Capabilities(via="a test", memory_map=True, node_affinity=True, pcpu_idle=True)

    def proximity_domains(self) -> Mapping[int, int]:
        return {}

    def snapshot(self, memory_map: MemoryMapAge = MemoryMapAge.NONE) -> Snapshot:
        if memory_map is not MemoryMapAge.NONE:
            self.maps.append(self.now_s)
        seen = host(*self.domains, at=self.now_s)
        return replace(seen, halted=self.halted, manager=self.manager)

    def wait(self, seconds: float, progress: Callable[[float], None] = no_progress) -> None:
        passed_s = 0.0
        while passed_s < seconds:
            step_s = min(0.25, seconds - passed_s)
            passed_s += step_s
            self.now_s += step_s
            self.domains = [self._later(domain, step_s) for domain in self.domains]
            self.then(self.now_s)
            progress(passed_s)

    def perform(self, action: Action) -> None:
        mine = isinstance(action, Hold | SetAffinity) or (isinstance(action, Manage) and action.who)
        if self.halted and mine:
            raise Halted(f"stopped: {self.halted}")
        match action:
            case Manage(who):
                self.manager = who
            case Halt(why):
                self.halted = why or ""
            case Hold():
                self._give(action.uuid, action.vcpu, hard=action.cpus)
            case LetGo():
                self._give(action.uuid, action.vcpu, hard=frozenset(range(8)))
            case SetAffinity() if action.soft is not None:
                uuid = next(each.uuid for each in self.domains if each.name == action.domain)
                self._give(uuid, action.vcpu, soft=action.soft)
            case _:
                raise NotImplementedError(action)
        self.performed.append(action)

    def named(self, kind: type[Action]) -> list[Action]:
        """What was done of one kind."""
        return [each for each in self.performed if isinstance(each, kind)]

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def _later(self, domain: Domain, seconds: float) -> Domain:
        ran_ns = round(self.busy * seconds * 1e9)
        return replace(domain, vcpus=tuple(replace(v, time_ns=(v.time_ns or 0) + ran_ns) for v in domain.vcpus))

    def _give(
        self, uuid: str, number: int, hard: frozenset[int] | None = None, soft: frozenset[int] | None = None
    ) -> None:
        def given(vcpu: Vcpu) -> Vcpu:
            if vcpu.id != number:
                return vcpu
            return replace(vcpu, hard_affinity=hard or vcpu.hard_affinity, soft_affinity=soft or vcpu.soft_affinity)

        self.domains = [
            replace(each, vcpus=tuple(map(given, each.vcpus))) if each.uuid == uuid else each for each in self.domains
        ]
