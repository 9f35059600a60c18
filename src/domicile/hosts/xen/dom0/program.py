"""Makes one program of all modules of this package: what is sent to a Dom0, and what moves memory there.

The program is this file, then a call of `start` with the sources of all modules. It needs neither a folder to be
unpacked to nor anything to unpack it with: the agent runs where nothing can be written, and says so itself. Run with
an argument it is the mover of that folder: the agent, which has its own sources, writes the same program there.
"""

import sys
from importlib.machinery import ModuleSpec
from typing import Any, Dict, Optional

PACKAGE = "domicile/hosts/xen/dom0"


class Sources:
    """Imports modules from memory: a finder and loader as `sys.meta_path` takes them."""

    def __init__(self, sources: Dict[str, str]) -> None:
        self.sources = sources

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """Where a module is, None if it is not ours."""
        del path, target
        file = name.replace(".", "/")
        for found, package in ((file + "/__init__.py", True), (file + ".py", False)):
            if found in self.sources:
                return ModuleSpec(name, self, origin=found, is_package=package)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary one."""

    def exec_module(self, module: Any) -> None:
        """Run a module's source."""
        origin = module.__spec__.origin
        exec(compile(self.sources[origin], origin, "exec", dont_inherit=True), module.__dict__)  # noqa: S102


def whole(sources: Dict[str, str]) -> str:
    """The program of these sources, by path: always the same text for the same sources."""
    modules = ["%s: %s,\n" % (ascii(path), ascii(source)) for path, source in sorted(sources.items())]
    return sources[PACKAGE + "/program.py"] + "\n\nstart({\n" + "".join(modules) + "})\n"


def start(sources: Dict[str, str]) -> None:
    """Be the mover of the folder that is named, or else the agent."""
    sys.meta_path.insert(0, Sources(sources))
    if sys.argv[1:]:
        from domicile.hosts.xen.dom0.mover import run  # noqa: PLC0415

        run.main(sys.argv[1])
    else:
        from domicile.hosts.xen.dom0.agent import serve  # noqa: PLC0415

        serve.main(whole(sources))
