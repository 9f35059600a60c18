"""Carries out what a client asks of a Dom0, and is there as long as the connection to it is.

It reads one request a line on descriptor 0, `{"op": …, "args": {…}}`, and writes one answer a line on descriptor 1,
`{"ok": …}` or `{"error": {"kind", "message", "output"}}`; an empty line is a sign of life from the client. Without any
line for `link.LEASE_S` the client is taken for gone (sshd may take hours to notice a cable pulled), as at the end of
input or a signal: then every domain that was created here and not unpaused is destroyed, every reservation made here
ends, and every vCPU held here is let go.

Answers hold `xl`'s tables, unread: the client has the parsers. Starting `xl` costs far more than what it does (half a
second of CPU time under the lab's emulation), so where Xen's Python bindings and libxenctrl can be asked, `direct`
writes the same tables from what they say, and no program is started.
"""
