"""hwloc's XML as plain objects, with limits: what the elements and attributes are, not yet what they mean.

Source: doc/hwloc.dtd, hwloc/hwloc2.dtd and hwloc/topology-xml.c, hwloc 0.9 to 3.0. The document may name its DTD, which
is not fetched; entities are refused (defusedxml). Elements that say nothing about nodes, CPUs, memory and PCI devices
are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]

from domicile.errors import BadInput
from domicile.topology.bitmaps import parse_hwloc_bitmap

__all__ = ["Document", "Matrix", "MemoryAttribute", "Object", "parse_document"]

MAX_BYTES = 64 << 20
MAX_ELEMENTS = 200_000
MAX_DEPTH = 100
ROOTS = ("topology", "root")
NO_INDEX = (-1, 0xFFFFFFFF)


@dataclass(slots=True)
class Object:
    """An object of hwloc's tree."""

    type: str
    attributes: dict[str, str]
    parent: Object | None
    infos: dict[str, str] = field(default_factory=dict)
    children: list[Object] = field(default_factory=list)

    def walk(self) -> Iterator[Object]:
        """This object and all below it, in the document's order."""
        ahead = [self]
        while ahead:
            one = ahead.pop()
            yield one
            ahead.extend(reversed(one.children))

    def ancestors(self) -> Iterator[Object]:
        """The objects above it, nearest first."""
        above = self.parent
        while above is not None:
            yield above
            above = above.parent


@dataclass(slots=True)
class Matrix:
    """A matrix of distances: v1's below the object that it is about, v2's and v3's with the indexes of its objects."""

    attributes: dict[str, str]
    about: Object | None
    indexes: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)


@dataclass(slots=True)
class MemoryAttribute:
    """A memory attribute and its values, each with its target and initiator."""

    name: str
    values: list[dict[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Document:
    """A topology. `major` is the format's version: 1, 2 or 3."""

    source: str
    major: int
    root: Object
    matrices: list[Matrix]
    memory_attributes: list[MemoryAttribute]
    infos: dict[str, str]

    def bad(self, one: Object, problem: str) -> BadInput:
        """The error for an object."""
        return BadInput(self.source, problem, describe(one))

    def number(self, one: Object, name: str) -> int | None:
        """An attribute that is a whole number; None where it is missing or hwloc's -1."""
        text = one.attributes.get(name)
        if text is None:
            return None
        digits = text.strip().removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            raise self.bad(one, f"{name}={text[:24]!r} is no number")
        value = int(text)
        return None if value in NO_INDEX else value

    def bitmap(self, one: Object, name: str) -> int | None:
        """An attribute that is a set of CPUs or nodes; None where it is missing, negative where it has no end."""
        text = one.attributes.get(name)
        if not text:
            return None
        try:
            return parse_hwloc_bitmap(text)
        except ValueError as error:
            raise self.bad(one, f"{name}: {error}") from None


def describe(one: Object) -> str:
    """An object in an error's line: `NUMANode 3`."""
    index = one.attributes.get("os_index", one.attributes.get("pci_busid", ""))
    return f"{one.type[:20]} {index[:20]}".strip()


class _Builder:
    """What the parser calls: keeps the elements that matter and counts all of them."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.version = ""
        self.root: Object | None = None
        self.matrices: list[Matrix] = []
        self.memory_attributes: list[MemoryAttribute] = []
        self.infos: dict[str, str] = {}
        self._path: list[str] = []
        self._object: Object | None = None
        self._matrix: Matrix | None = None
        self._text: list[str] | None = None
        self._elements = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._elements += 1
        if self._elements > MAX_ELEMENTS or len(self._path) >= MAX_DEPTH:
            raise BadInput(self.source, f"more than {MAX_ELEMENTS} elements, or deeper than {MAX_DEPTH}")
        parent = self._path[-1] if self._path else ""
        # an object where none can be is an unknown element, whose end must not end another object
        stray = tag == "object" and parent not in (*ROOTS, "object")
        self._path.append("" if stray else tag)
        if len(self._path) == 1:
            self._start_root(tag, attributes)
        elif tag == "object" and not stray:
            self._start_object(attributes)
        elif self._object is not None:
            self._start_in_object(tag, parent, attributes)
        else:
            self._start_beside(tag, parent, attributes)

    def _start_root(self, tag: str, attributes: dict[str, str]) -> None:
        if tag not in ROOTS:
            raise BadInput(self.source, f"a <{tag[:40]}> is no hwloc topology", "line 1")
        self.version = attributes.get("version", "")

    def _start_object(self, attributes: dict[str, str]) -> None:
        one = Object(attributes.get("type", ""), attributes, self._object)
        if self._object is not None:
            self._object.children.append(one)
        elif self.root is None:
            self.root = one
        else:
            raise BadInput(self.source, "more than one root object", describe(one))
        self._object = one

    def _start_in_object(self, tag: str, parent: str, attributes: dict[str, str]) -> None:
        assert self._object is not None  # noqa: S101 (for the type checker: the caller has looked)
        if tag == "info":
            self._object.infos.setdefault(attributes.get("name", ""), attributes.get("value", ""))
        elif tag == "distances":
            self._start_matrix(attributes, self._object)
        elif tag == "latency" and parent == "distances" and self._matrix is not None:
            self._matrix.values.append(attributes.get("value", ""))

    def _start_beside(self, tag: str, parent: str, attributes: dict[str, str]) -> None:
        if tag == "distances2":
            self._start_matrix(attributes, None)
        elif tag in ("indexes", "u64values") and parent == "distances2":
            self._text = []
        elif tag == "memattr":
            self.memory_attributes.append(MemoryAttribute(attributes.get("name", "")))
        elif tag == "memattr_value" and parent == "memattr":
            self.memory_attributes[-1].values.append(attributes)
        elif tag == "info" and parent in ROOTS:
            self.infos.setdefault(attributes.get("name", ""), attributes.get("value", ""))

    def _start_matrix(self, attributes: dict[str, str], about: Object | None) -> None:
        self._matrix = Matrix(attributes, about)
        self.matrices.append(self._matrix)

    def data(self, text: str) -> None:
        """Text in an element; only the numbers of matrices are text."""
        if self._text is not None:
            self._text.append(text)

    def end(self, _: str) -> None:
        """An element ends."""
        tag = self._path.pop()
        if self._text is not None and self._matrix is not None:
            words = "".join(self._text).split()
            (self._matrix.indexes if tag == "indexes" else self._matrix.values).extend(words)
            self._text = None
        elif tag == "object" and self._object is not None:
            self._object = self._object.parent

    def close(self) -> _Builder:
        """The document ends."""
        return self


def parse_document(data: bytes, source: str) -> Document:
    """The objects of a hwloc XML file. `BadInput` where it is none, or is damaged, hostile or larger than any."""
    if len(data) > MAX_BYTES:
        raise BadInput(source, f"larger than {MAX_BYTES >> 20} MiB")
    builder = _Builder(source)
    parser = DefusedXMLParser(target=builder, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    try:
        # in one piece: older expats read a long element anew with every piece (CVE-2023-52425)
        parser.feed(data)
        parser.close()
    except ParseError as error:
        line, column = error.position
        reason = str(error).partition(":")[0]
        raise BadInput(source, f"no well-formed XML ({reason})", f"line {line}, column {column}") from None
    except DefusedXmlException as error:
        raise BadInput(source, f"entities are not allowed ({type(error).__name__})") from None
    except (LookupError, ValueError) as error:
        raise BadInput(source, f"an encoding that cannot be read ({error})") from None
    if builder.root is None:
        raise BadInput(source, "no objects in it")
    return Document(
        source,
        _major(builder.version, source),
        builder.root,
        builder.matrices,
        builder.memory_attributes,
        builder.infos,
    )


def _major(version: str, source: str) -> int:
    """The format's major version; none was written before 2.0."""
    major = version.partition(".")[0]
    if not version:
        return 1
    if major not in ("1", "2", "3"):
        raise BadInput(source, f"version {version[:20]!r} of hwloc's XML; known are 1 to 3", "line 1")
    return int(major)
