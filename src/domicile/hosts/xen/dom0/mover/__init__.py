"""Moves one domain's memory to other nodes of its own host: a process of its own in Dom0, which outlives the agent.

It is started by the agent as `python3 PROGRAM FOLDER`, where PROGRAM is this whole package (`program`). FOLDER is
`/run/domicile/moves/TOKEN`, and holds

- `order`: JSON, what to do (see `order`); never changed
- `program`: what carries it out; never changed, so that another version of domicile that comes by lets it go on
- `mover`, `worker`: "PID STARTTIME" of this process and of the `xl` that it waits for
- `progress`: "STAGE DONE_MIB TOTAL_MIB"
- `cancel`: there once somebody wants it to end
- `result`: JSON {"ended": "moved" | "failed" | "lost", "why": …}, written last
- `log`: what `xl` said

However often it is killed and started again, it goes on from what it finds: a domain is never started twice, and never
ended while there is no other copy of it. The ways:

- live: `xl migrate` to this host, with what is sent led through us. The configuration at its head, libxl's own JSON,
  gets the affinity that the domain is to have there; so the domain keeps all else, also what was plugged into it.
  Copying for the first time is paced; the later, short rounds are not, nor the last, in which the guest stands still.
- save: `xl save`, then `xl restore`, led through us in the same way. The file is an ordinary one of xl's.
- balloon: node affinity, then the guest gives free memory back and takes it again, from the new nodes.
"""
