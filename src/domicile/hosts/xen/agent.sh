# What runs in a Dom0 without Python: read by `sh -s`, kept as long as the connection lives, told what to do in lines
# "request MARK FUNCTION ARGUMENT…" that the client has quoted. It keeps the promises of dom0 (see there) and shares
# its files; it needs xl, flock, awk, sed and mktemp, as busybox or util-linux have them. What `xl` prints is passed on
# unread, between lines with MARK, which is random.

umask 077
set -f
LC_ALL=C PATH="${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
export LC_ALL PATH
RUN=${DOMICILE_RUN_DIR:-/run/domicile}
LEASE=${DOMICILE_LEASE_S:-30}
PCI=${DOMICILE_PCI_DIR:-/sys/bus/pci}
SRAT=${DOMICILE_SRAT:-/sys/firmware/acpi/tables/SRAT}
QUICK_S=60
LOCK_S=30
BEATS=0
MARK=''
TMP=''
XL=''
ME=''
LIMIT='timeout -s KILL'
command -v timeout >/dev/null 2>&1 || LIMIT=unlimited
SESSION=setsid
command -v setsid >/dev/null 2>&1 || SESSION=''

# -- answers ----------------------------------------------------------------------------------------------------------

# section NAME FILE: what is in a file, as it is
section() {
    printf '%s begin %s\n' "$MARK" "$1"
    cat "$2"
    printf '\n%s end\n' "$MARK"
}

# value NAME TEXT
value() {
    printf '%s begin %s\n%s\n%s end\n' "$MARK" "$1" "$2" "$MARK"
}

# problem KIND MESSAGE [FILE]: always fails
problem() {
    value "problem $1" "$2"
    [ -z "${3:-}" ] || section output "$3"
    return 1
}

# request MARK FUNCTION ARGUMENT…
request() {
    MARK=$1
    shift
    echo busy >"$TMP/beat"
    "$@" </dev/null
    printf '%s done\n' "$MARK"
    beat
}

# A sign of life from the client.
beat() {
    BEATS=$((BEATS + 1))
    echo "$BEATS" >"$TMP/beat"
}

# -- processes, records, the lock -------------------------------------------------------------------------------------

unlimited() {
    shift
    "$@"
}

quick() {
    $LIMIT $QUICK_S "$XL" "$@" </dev/null
}

# start_time PID: field 22 of /proc/PID/stat; fails if the process is gone or a zombie
start_time() {
    { IFS= read -r _stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2086
    set -- ${_stat##*)}
    case $1 in Z | X) return 1 ;; esac
    shift 19
    echo "$1"
}

# alive PID START
alive() {
    [ -n "${2:-}" ] && [ "$(start_time "$1")" = "$2" ]
}

# names FOLDER: the records in it, one name a line
names() {
    for _path in $(set +f; echo "$RUN/$1"/*); do
        case $_path in
        *.cfg) ;;
        *) [ ! -f "$_path" ] || echo "${_path##*/}" ;;
        esac
    done
}

# locked FILE COMMAND…: with that lock held
locked() {
    _lock=$1
    shift
    (
        _tries=0
        until flock -n 9; do
            _tries=$((_tries + 1))
            if [ "$_tries" -gt $((LOCK_S * 10)) ]; then
                problem failed "another domicile has held $RUN/$_lock for $LOCK_S s"
                exit 1
            fi
            sleep 0.1
        done
        "$@"
    ) 9>>"$RUN/$_lock"
}

generation() {
    IFS= read -r _boot </proc/sys/kernel/random/boot_id
    _made=0
    [ ! -r "$RUN/generation" ] || read -r _made <"$RUN/generation"
    echo "${_boot%%-*}-$_made"
}

# write FILE TEXT: whole or not at all
write() {
    printf '%s\n' "$2" >"${1%/*}/.${1##*/}.$$" && mv "${1%/*}/.${1##*/}.$$" "$1"
}

# reservations: those whose owners live, a line of JSON each; the others are dropped
reservations() {
    for _token in $(names reservations); do
        { read -r _pid _start && IFS= read -r _json; } <"$RUN/reservations/$_token" || _start=
        if alive "$_pid" "$_start"; then
            printf '%s\n' "$_json"
        else
            rm -f "$RUN/reservations/$_token"
        fi
    done
}

# -- affinity ---------------------------------------------------------------------------------------------------------

# hard_affinity ID VCPU, as `xl` prints it
hard_affinity() {
    quick vcpu-list "$1" 2>/dev/null | awk -v vcpu="$2" -v id="$1" \
        'NR > 1 && $(NF - 7) == id && $(NF - 6) == vcpu { print $(NF - 2) }'
}

# give_back UUID.VCPU: undo a hold, unless somebody else has set that affinity since
give_back() {
    _before=''
    { read -r _owner && read -r _before _given; } <"$RUN/holds/$1" || return 0
    if [ -n "$_before" ]; then
        quick list -v >"$TMP/back" 2>/dev/null || return 1
        _id=$(awk -v uuid="${1%.*}" 'NR > 1 { for (i = NF; i > 5; i--) if ($i == uuid) { print $(i - 5); exit } }' \
            "$TMP/back")
        if [ -n "$_id" ] && [ "$(hard_affinity "$_id" "${1##*.}")" = "$_given" ]; then
            quick vcpu-pin "$_id" "${1##*.}" "$_before" - >/dev/null 2>&1 || return 1
        fi
    fi
    rm -f "$RUN/holds/$1"
}

# -- domains that have no owner (any more) ----------------------------------------------------------------------------

# abandon UUID: destroy it if it is there and was never unpaused
abandon() {
    quick list -v >"$TMP/abandon" 2>/dev/null || return 1
    _found=$(awk -v uuid="$1" 'NR > 1 { for (i = NF; i > 5; i--) if ($i == uuid) { print $(i - 5), $(i - 2); exit } }' \
        "$TMP/abandon")
    case ${_found#* } in
    ??p??-) quick destroy "${_found%% *}" >/dev/null 2>&1 || return 1 ;;
    esac
    rm -f "$RUN/building/$1.cfg" "$RUN/building/$1"
}

# sweep: abandon what dead agents were building
sweep() {
    for _uuid in $(names building); do
        _owner='' _builder=''
        { read -r _owner && read -r _builder; } <"$RUN/building/$_uuid"
        # shellcheck disable=SC2086
        alive $_owner && continue
        # shellcheck disable=SC2086
        while alive $_builder; do
            kill -KILL "-${_builder%% *}" 2>/dev/null
            kill -KILL "${_builder%% *}" 2>/dev/null
            sleep 0.1
        done
        abandon "$_uuid"
    done
    for _held in $(names holds); do
        read -r _owner <"$RUN/holds/$_held"
        # shellcheck disable=SC2086
        alive $_owner || locked lock give_back "$_held"
    done
}

# leave: the client is gone, nothing that it began and did not end may stay
leave() {
    trap '' HUP TERM INT
    for _uuid in $(names building); do
        read -r _owner <"$RUN/building/$_uuid"
        [ "$_owner" != "$ME" ] || abandon "$_uuid" || { sleep 1 && abandon "$_uuid"; }
    done
    for _token in $(names reservations); do
        read -r _owner <"$RUN/reservations/$_token"
        [ "$_owner" != "$ME" ] || rm -f "$RUN/reservations/$_token"
    done
    if [ -f "$RUN/office/manager" ]; then
        read -r _owner <"$RUN/office/manager"
        [ "$_owner" != "$ME" ] || rm -f "$RUN/office/manager"
    fi
    for _held in $(names holds); do
        read -r _owner <"$RUN/holds/$_held"
        [ "$_owner" != "$ME" ] || locked lock give_back "$_held"
    done
    rm -rf "$TMP"
}

# watch: end a shell whose client is silent (it may be hanging in a read from a cable that was pulled), and clean up
# after one that was killed
watch() {
    _missed=0 _last=
    # shellcheck disable=SC2086
    while sleep 1 && alive $ME; do
        read -r _now <"$TMP/beat" || continue
        if [ "$_now" = busy ] || [ "$_now" != "$_last" ]; then _missed=0; else _missed=$((_missed + 1)); fi
        _last=$_now
        [ "$_missed" -lt "$LEASE" ] || kill -KILL $$
    done
    sweep
    locked lock reservations
    rm -rf "$TMP"
}

# -- requests ---------------------------------------------------------------------------------------------------------

# start MARK: check what is there
start() {
    MARK=$1
    for _tool in flock awk sed mktemp cat mv rm; do
        command -v "$_tool" >/dev/null 2>&1 || { problem failed "neither Python 3.6 nor $_tool is there"; return; }
    done
    for _xl in "/usr/lib/xen-$(cat /sys/hypervisor/version/major 2>/dev/null).$(
        cat /sys/hypervisor/version/minor 2>/dev/null
    )/bin/xl" "$(command -v xl)"; do
        [ -n "$XL" ] || [ ! -x "$_xl" ] || XL=$_xl
    done
    [ -n "$XL" ] || { problem failed 'there is no xl'; return; }
    if ! mkdir -p "$RUN/reservations" "$RUN/building" "$RUN/holds" "$RUN/office" || [ ! -O "$RUN" ] ||
        ! TMP=$(mktemp -d "$RUN/.sh.XXXXXX"); then
        problem failed "$RUN cannot be used"
        return
    fi
    ME="$$ $(start_time $$)"
    trap leave EXIT
    trap 'exit 1' HUP TERM INT
    beat
    # `exec`, because a redirected function may keep a copy of our output, and then nobody sees it end
    (
        exec </dev/null >/dev/null 2>&1
        watch
    ) &
    sweep
    value lease "$LEASE"
}

# run NAME XL-ARGUMENT…: print what it prints as a section, or the problem
run() {
    _section=$1
    shift
    quick "$@" >"$TMP/$_section" 2>"$TMP/$_section.err"
    show "$_section" $? "$1"
}

# show NAME STATUS COMMAND: the output of a command that ended, or the problem
show() {
    case $2 in
    0) section "$1" "$TMP/$1" ;;
    137) problem failed "xl $3 did not end within $QUICK_S s" "$TMP/$1.err" ;;
    *) problem failed "xl $3 failed" "$TMP/$1.err" ;;
    esac
}

# snapshot WANTED: reservations, then the domains' memory, then the nodes' free memory
snapshot() {
    sweep
    locked lock state || return
    quick list -v -c -n >"$TMP/domains" 2>"$TMP/domains.err" &
    _list=$!
    quick vcpu-list >"$TMP/vcpus" 2>"$TMP/vcpus.err" &
    _vcpus=$!
    quick cpupool-list -c >"$TMP/cpupools" 2>"$TMP/cpupools.err" &
    _pools=$!
    quick list -l >"$TMP/configs" 2>"$TMP/configs.err" &
    _configs=$!
    wait $_list
    show domains $? list || return
    wait $_vcpus
    show vcpus $? vcpu-list || return
    wait $_pools
    show cpupools $? cpupool-list || return
    wait $_configs
    show configs $? list || return
    value taken_at "$(date +%s)"
    quick info -n >"$TMP/info" 2>"$TMP/info.err"
    _status=$?
    if grep -q '^outstanding_claims *: *[1-9]' "$TMP/info"; then
        run claims claims || return
        quick info -n >"$TMP/info" 2>"$TMP/info.err"
        _status=$?
    fi
    show info $_status info || return
    [ "$(wc -l <"$TMP/cpupools")" -le 2 ] || run schedulers cpupool-list || return
    value host_id "$(cat /etc/machine-id 2>/dev/null || cat /sys/class/dmi/id/product_uuid 2>/dev/null || uname -n)"
    value pci_devices "$(ls "$PCI/devices" 2>/dev/null)"
    value pci_classes "$(pci_classes)"
    value assignable_devices "$(ls "$PCI/drivers/pciback" 2>/dev/null)"
    [ "$1" = none ] || locked memory-map.lock map "$1"
    [ ! -r "$RUN/memory-map" ] || { value uptime "$(uptime_s)"; section memory_map "$RUN/memory-map"; }
}

state() {
    value reservations "$(reservations)"
    value generation "$(generation)"
    _holds=''
    for _held in $(names holds); do
        { read -r _owner && IFS= read -r _line; } <"$RUN/holds/$_held" || continue
        # shellcheck disable=SC2086
        ! alive $_owner || _holds="$_holds$_held $_line
"
    done
    value holds "$_holds"
    if [ -e "$RUN/office/manager" ]; then
        { read -r _owner && IFS= read -r _line; } <"$RUN/office/manager"
        # shellcheck disable=SC2086
        ! alive $_owner || value manager "$_line"
    fi
    [ ! -e "$RUN/halted" ] || value halted "$(cat "$RUN/halted")"
}

# pci_classes: a line "ADDRESS CLASS" for each PCI device
pci_classes() {
    for _path in $(set +f; echo "$PCI"/devices/*); do
        { read -r _class <"$_path/class"; } 2>/dev/null && echo "${_path##*/} $_class"
    done
}

# boot_log: the lines of Xen's console that name proximity domains, kept on file because the ring forgets them, and the
# SRAT
boot_log() {
    if [ ! -s "$RUN/boot-log" ]; then
        quick dmesg >"$TMP/console" 2>"$TMP/console.err" || { show console $? dmesg; return; }
        grep ' PXM ' "$TMP/console" >"$TMP/boot-log" && write "$RUN/boot-log" "$(cat "$TMP/boot-log")"
    fi
    [ ! -r "$RUN/boot-log" ] || section boot_log "$RUN/boot-log"
    [ ! -r "$SRAT" ] || value srat "$(od -An -v -tx1 "$SRAT" | tr -d ' \n')"
}

uptime_s() {
    read -r _up _ </proc/uptime
    echo "$_up"
}

# map WANTED: have a memory map that is as young as wanted, within the ration of dom0/agent/memory_map.py
map() {
    if [ "$1" = recent ] && [ -r "$RUN/memory-map" ]; then
        [ "$(awk -v now="$(uptime_s)" 'NR == 1 { age = 20 * $2; print (now - $1 < (age < 5 ? 5 : age)); exit }' \
            "$RUN/memory-map")" != 1 ] || return 0
    fi
    quick dmesg >"$TMP/console" 2>"$TMP/console.err" || { value note 'no memory map: xl dmesg failed'; return; }
    _before=$(sed -n "s/.*'u' pressed -> dumping numa info (now = \([0-9]*\)).*/\1/p" "$TMP/console" | sort -n | tail -n 1)
    _begun=$(uptime_s)
    quick debug-keys u >/dev/null 2>"$TMP/console.err" || { value note 'no memory map: xl debug-keys failed'; return; }
    _ended=$(uptime_s)
    quick dmesg >"$TMP/console" 2>"$TMP/console.err"
    {
        echo "$_begun $(awk -v a="$_begun" -v b="$_ended" 'BEGIN { print b - a }')"
        awk -v before="${_before:--1}" '
            !on && match($0, /pressed -> dumping numa info \(now = [0-9]+\)/) {
                now = substr($0, RSTART, RLENGTH)
                gsub(/[^0-9]/, "", now)
                on = (now + 0 > before + 0)
            }
            on { print }' "$TMP/console"
    } >"$RUN/.memory-map.$$"
    mv "$RUN/.memory-map.$$" "$RUN/memory-map"
}

# reserve TOKEN EXPECTED JSON
reserve() {
    locked lock reserve_locked "$@"
}

reserve_locked() {
    reservations >/dev/null
    _now=$(generation)
    if [ "$_now" != "$2" ]; then
        problem conflict "reservations changed since the snapshot ($2, now $_now)"
    elif [ -e "$RUN/reservations/$1" ]; then
        problem failed "reservation $1 is there already"
    else
        write "$RUN/reservations/$1" "$ME
$3" && write "$RUN/generation" $((${_now##*-} + 1))
    fi
}

# release TOKEN
release() {
    locked lock rm -f "$RUN/reservations/$1"
}

# list: the domains
list() {
    run domains list -v
}

# begin_create: take the lock, and tell what the client has to know to say yes; it says `end_create` or `create`
begin_create() {
    sweep
    exec 9>>"$RUN/lock"
    _tries=0
    until flock -n 9; do
        _tries=$((_tries + 1))
        if [ "$_tries" -gt $((LOCK_S * 10)) ]; then
            problem failed "another domicile has held $RUN/lock for $LOCK_S s"
            return
        fi
        sleep 0.1
    done
    run domains list -v
    for _uuid in $(names building); do
        { read -r _owner && read -r _builder; IFS= read -r _name; } <"$RUN/building/$_uuid"
        # shellcheck disable=SC2086
        ! alive $_owner || value "building $_uuid" "$_name"
    done
}

end_create() {
    exec 9>&-
}

# shellcheck disable=SC2016
BUILDER='record=$1 owner=$2 name=$3; shift 3
IFS= read -r stat <"/proc/$$/stat"
start=$(set -f; set -- ${stat##*)}; shift 19; echo "$1")
printf "%s\n%s %s\n%s\n" "$owner" "$$" "$start" "$name" >"${record%/*}/.${record##*/}.$$" &&
mv "${record%/*}/.${record##*/}.$$" "$record" && exec "$@"'

# create UUID NAME-AS-JSON CONFIG LIMIT: after begin_create
create() {
    write "$RUN/building/$1" "$ME

$2"
    exec 9>&-
    printf '%s' "$3" >"$RUN/building/$1.cfg"
    # shellcheck disable=SC2086
    $LIMIT "$4" $SESSION sh -c "$BUILDER" builder "$RUN/building/$1" "$ME" "$2" \
        "$XL" create -q -p "$RUN/building/$1.cfg" >"$TMP/create" 2>"$TMP/create.err"
    _status=$?
    rm -f "$RUN/building/$1.cfg"
    if [ $_status -ne 0 ]; then
        _left=
        abandon "$1" || _left='; and it could not be cleared away'
        [ $_status -ne 137 ] || { problem failed "xl create did not end within $4 s$_left" "$TMP/create.err"; return; }
        [ -s "$TMP/create.err" ] || _left=" with status $_status and said nothing$_left"
        problem failed "xl create failed$_left" "$TMP/create.err"
    fi
}

# give_up UUID: after a create that went wrong in a way only the client sees
give_up() {
    abandon "$1" || problem failed 'it could not be cleared away'
}

# act UUID XL-ARGUMENT…: something done to a domain; libxl's complaints count, whatever the status. With a UUID the
# domain is from now on nobody's.
act() {
    _uuid=$1
    shift
    quick "$@" >"$TMP/act" 2>"$TMP/act.err"
    _status=$?
    ! grep -q 'libxl: error:' "$TMP/act.err" || [ $_status -ne 0 ] || _status=1
    show act $_status "$1" && [ -n "$_uuid" ] && rm -f "$RUN/building/$_uuid"
}

# halted: fails, saying why, if somebody has stopped the managers of this host
halted() {
    [ ! -e "$RUN/halted" ] || problem halted "managers of this host are stopped: $(cat "$RUN/halted")"
}

# halt [WHY-AS-JSON]: stop every manager and end all holds, whoever made them; without WHY let managers start again
halt() {
    locked lock halt_locked "$1"
}

halt_locked() {
    [ -n "$1" ] || { rm -f "$RUN/halted"; return; }
    _kept=0
    write "$RUN/halted" "$1"
    for _held in $(names holds); do
        give_back "$_held" || _kept=$((_kept + 1))
    done
    [ $_kept = 0 ] || problem failed "managers are stopped, but $_kept vCPUs could not be let go"
}

# managing: whether this is the connection of the host's manager
managing() {
    _owner=''
    [ ! -e "$RUN/office/manager" ] || read -r _owner <"$RUN/office/manager"
    [ "$_owner" = "$ME" ]
}

# set_affinity ID VCPU HARD SOFT
set_affinity() {
    ! managing || halted || return
    act "" vcpu-pin "$@"
}

# hold UUID ID VCPU BEFORE HELD
hold() {
    locked lock hold_locked "$@"
}

hold_locked() {
    halted || return
    _record=$RUN/holds/$1.$3
    _had=$4 _now=$(hard_affinity "$2" "$3")
    if [ -e "$_record" ]; then
        { read -r _owner && read -r _had _given; } <"$_record"
        # shellcheck disable=SC2086
        if [ "$_owner" != "$ME" ] && alive $_owner; then
            problem refused "vCPU $3 of domain $2 is held by process ${_owner%% *}"
            return
        fi
        if [ "$_now" != "$_given" ]; then
            rm -f "$_record"
            problem conflict "somebody else set the hard affinity of vCPU $3 of domain $2"
            return
        fi
    elif [ "$_now" != "$4" ]; then
        problem conflict "the hard affinity of vCPU $3 of domain $2 has changed"
        return
    fi
    write "$_record" "$ME
$_had $5" && act "" vcpu-pin "$2" "$3" "$5" -
}

# let_go UUID VCPU
let_go() {
    [ ! -e "$RUN/holds/$1.$2" ] || locked lock give_back "$1.$2" || problem failed 'it could not be given back'
}

# manage WHO-AS-JSON: take the office of this host's manager; without WHO lay it down
manage() {
    locked lock manage_locked "$1"
}

manage_locked() {
    _owner='' _name=''
    [ ! -e "$RUN/office/manager" ] || { read -r _owner && IFS= read -r _name; } <"$RUN/office/manager"
    # shellcheck disable=SC2086
    if [ -n "$_owner" ] && [ "$_owner" != "$ME" ] && alive $_owner; then
        [ -z "$1" ] || problem refused "this host is managed by $_name (process ${_owner%% *} there)"
    else
        rm -f "$RUN/office/manager"
        [ -z "$1" ] || { halted && write "$RUN/office/manager" "$ME
$1"; }
    fi
}
