"""The part of domicile that runs in Dom0: sent there as a whole through the connection (`program`), never installed.

Standard library and Xen's bindings alone, Python 3.6 (XCP-ng 8.3's Dom0). There are two programs in it: `agent` is
there as long as the connection is; `mover` moves one domain's memory, in a process of its own that outlives the agent.
What both need is in this folder.

What is shared between agents is in `/run/domicile` (`DOMICILE_RUN_DIR`), 0700, and so gone after a reboot; `agent.sh`
uses the same files. `lock` is taken with flock(2). `generation` counts the reservations ever made. A file in
`reservations/` (name: the token) or `building/` (name: the domain's UUID) starts with a line "PID STARTTIME" of its
owner: the owner dead, the file means nothing. `building/` records are those of domains created and not yet unpaused:
the second line is "PID STARTTIME" of `xl create`, the third the domain's name as JSON. A file in `holds/` (name: the
domain's UUID, a dot, the vCPU) says in its second line which hard affinity it had and which it was given;
`office/manager` who changes this host of their own accord, as JSON in its second line. `halted`, as JSON, says why
nobody may; it is nobody's, and is there until it is taken away. `moves/` has a folder for each domain whose memory is
on its way to other nodes, or was: see `mover`, which does it. `memory-map` holds the last dump of debug key `u`: a line
"UPTIME DURATION" in seconds, then the console's text from its header on.
"""
