"""What a domain that runs is given: its vCPUs' affinity, and the target of its balloon driver."""

from typing import Any, Dict

from domicile.hosts.xen.dom0.agent.domains import Domains
from domicile.hosts.xen.dom0.agent.office import Office
from domicile.hosts.xen.dom0.agent.xen import Xen


class Settings:
    """Sets what stays set, unlike a hold."""

    def __init__(self, xen: Xen, domains: Domains, office: Office) -> None:
        self.xen = xen
        self.domains = domains
        self.office = office

    def set_affinity(self, name: str, vcpu: int, hard: str, soft: str) -> Dict[str, Any]:
        """Set a vCPU's affinity; "-" leaves that kind as it is."""
        self.office.refuse_if_ours_and_halted()
        self.xen.pin(self.domains.the(name).id, vcpu, hard, soft)
        return {}

    def set_memory(self, name: str, uuid: str, target_mib: int) -> Dict[str, Any]:
        """Set what a domain's balloon driver is to bring it to."""
        self.office.refuse_if_ours_and_halted()
        row = self.domains.the_very(name, uuid)
        self.xen.xl.ask(["mem-set", str(row.id), "%dm" % target_mib], strict=True)
        return {}
