#!/bin/sh
# /init of the lab's tiny guest: says what the guest sees, then does as it is told.
#
# A load is told in words: "busy=2 touch_mib=128 pattern=1 pause_ms=50" (2 vCPUs compute; between them they keep touching
# 128 MiB and check what they find there, with a pause after each time) or "idle". What a command leaves out is 0, so each command says the whole load. It
# comes from the kernel's command line at boot, from the xenstore value data/domicile/command, or as a line typed at the
# console; the command "sweeps" publishes how often the memory has been gone over since the load began.
#
# Published in xenstore under data/domicile: report (CPUs, memory, nodes), state (the load, or "error: ..."), sweeps, and
# clock (seconds since boot and since 1970), by the command "clock".

export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /run
mkfifo /run/commands

publish() { # NAME VALUE
    [ ! -e /dev/xen/xenbus ] || domicile-guest write "data/domicile/$1" "$2"
}

say() {
    echo "domicile-guest: $*"
}

memory_mib() { # FILE KEY
    awk -v key="$2" '{ for (i = 1; i < NF; i++) if ($i == key) { print int($(i + 1) / 1024); exit } }' "$1"
}

report() {
    echo "kernel $(uname -r), $(nproc) vCPUs, $(memory_mib /proc/meminfo MemTotal:) MiB"
    for node in /sys/devices/system/node/node[0-9]*; do
        [ -d "$node" ] || continue
        echo "node ${node##*/node}: cpus $(cat "$node/cpulist"), $(memory_mib "$node/meminfo" MemTotal:) MiB," \
            "distances $(cat "$node/distance")"
    done
}

refuse() {
    say "$*"
    state="error: $*"
    publish state "$state"
}

begin() { # the load that $busy, $touch_mib, $pattern and $pause_ms tell
    rm -f /run/sweeps.*
    cpu=0
    while [ "$cpu" -lt "$busy" ]; do
        # the busy CPUs share the memory; one that only computes still needs somewhere to do it
        mib=$((touch_mib / busy + (cpu < touch_mib % busy)))
        [ "$mib" -gt 0 ] || mib=1
        {
            load load "$cpu" "$mib" "$pattern" "$pause_ms" "/run/sweeps.$cpu" 2>/dev/console ||
                [ $? = 143 ] || echo "lost $cpu" >/run/commands
        } 2>/dev/null &
        workers="$workers $!"
        cpu=$((cpu + 1))
    done
    state="busy=$busy touch_mib=$touch_mib pattern=$pattern pause_ms=$pause_ms"
    say "$state"
    publish state "$state"
}

obey() { # WORD...
    busy=0 touch_mib=0 pattern=0 pause_ms=0
    for word in "$@"; do
        case $word in
            idle) continue ;;
            busy=* | touch_mib=* | pattern=* | pause_ms=*) ;;
            *) refuse "no such command: $word"; return ;;
        esac
        case ${word#*=} in
            '' | *[!0-9]* | ??????*) refuse "not a number: $word"; return ;;
        esac
        case $word in
            busy=*) busy=${word#*=} ;;
            touch_mib=*) touch_mib=${word#*=} ;;
            pattern=*) pattern=${word#*=} ;;
            pause_ms=*) pause_ms=${word#*=} ;;
        esac
    done
    [ "$touch_mib" -eq 0 ] || [ "$busy" -gt 0 ] || busy=1
    if [ "$busy" -gt "$(nproc)" ]; then
        refuse "only $(nproc) vCPUs here, $busy asked for"
        return
    fi
    # what the load before has is free again; without a process to wait for it would wait for all, and those that listen
    # for commands never end
    killall load 2>/dev/null
    [ -z "$workers" ] || wait $workers 2>/dev/null
    workers=
    free_mib=$(memory_mib /proc/meminfo MemAvailable:)
    if [ "$touch_mib" -gt "$free_mib" ]; then
        refuse "only $free_mib MiB free here, $touch_mib asked for"
    else
        begin
    fi
}

boot_words() {
    for word in $(cat /proc/cmdline); do
        case $word in
            busy=* | touch_mib=* | pattern=* | pause_ms=*) echo "$word" ;;
        esac
    done
}

say "boot"
report | while read -r line; do say "$line"; done
dmesg | grep -i -E 'numa|srat:|slit|node_data|^[^a-z]*node +[0-9]+:' | while read -r line; do say "dmesg: $line"; done

# opened for reading and writing, so that it never ends while nobody has something to say
exec 3<>/run/commands
workers=
publish report "$(report)"
obey $(boot_words)
say "ready"

[ ! -e /dev/xen/xenbus ] || domicile-guest follow data/domicile/command >/run/commands 2>/dev/console &
(while read -r line; do [ -z "$line" ] || echo "$line"; done </dev/console >/run/commands) &

while read -r line <&3; do
    case $line in
        '')
            # no command is there: the guest has just started, or moved to where xenstore knows nothing of it
            publish report "$(report)"
            publish state "$state"
            ;;
        sweeps) publish sweeps "$(cat /run/sweeps.* 2>/dev/null | awk '{ sum += $1 } END { printf "%.0f", sum }')" ;;
        clock)
            read -r up _ </proc/uptime
            publish clock "$up $(date +%s)"
            ;;
        lost*) refuse "the load on CPU ${line#lost } ended: what it found in memory was wrong, or there was too little" ;;
        *)
            # split into words, with no file names put in for what looks like a pattern
            set -f
            set -- $line
            set +f
            obey "$@"
            ;;
    esac
done
