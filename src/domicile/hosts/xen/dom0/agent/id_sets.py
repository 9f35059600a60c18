"""Sets of ids of pCPUs or nodes, as `xl` reads and prints them: here bit n is id n."""

from domicile.hosts.xen.dom0.bindings import BUFFER


def ids_from(text: str) -> int:
    """The set of ids in a list such as "0-3,6": bit n is id n. "all" has every bit that a buffer has room for."""
    if text == "all":
        return (1 << 8 * BUFFER) - 1
    bits = 0
    for span in text.split(","):
        first, _, last = span.partition("-")
        bits |= (1 << int(last or first) + 1) - (1 << int(first))
    return bits


def set_text(bits: int, length: int) -> str:
    """A set of ids as `xl` prints it (print_bitmap): bit n is id n, of `length` ids."""
    bits &= (1 << length) - 1
    if bits == (1 << length) - 1:
        return "all"
    spans, first = [], -1
    for number in range(length + 1):
        if bits >> number & 1:
            first = number if first < 0 else first
        elif first >= 0:
            spans.append(str(first) if first == number - 1 else "%d-%d" % (first, number - 1))
            first = -1
    return ",".join(spans) or "none"
