# shellcheck shell=bash
# Shared by the scripts beside it: where things are, one progress line per step, and what to say when a step fails.
# Source it from bash with `set -euo pipefail`.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$project" || exit 1
build=$project/build
if ! mkdir -p "$build" 2>/dev/null || [ ! -w "$build" ]; then
    echo "$build cannot be written by $(id -un); use a clone of your own." >&2
    exit 1
fi

# Some machines tell Python to keep no bytecode. Ansible starts hundreds of Pythons and the tests dozens, and each would compile again,
# for seconds, what it imports.
unset PYTHONDONTWRITEBYTECODE

control() { # the control side's programs
    PATH=$build/venv/control/bin:$PATH "$@"
}

app() { # the application's programs
    PATH=$build/venv/app/bin:$PATH PYTHONPATH=$project/app/src "$@"
}

say() { printf '%s\n' "$*"; }

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Names the sandbox of this clone, so that tests in two clones never meet: "t-1a2b3c".
sandbox_of_clone() { printf 't-%s' "$(printf %s "$project" | sha256sum | cut -c1-6)"; }

steps_done=0
steps_total=${steps_total:-0}

# step LOG "What it does" COMMAND...: run a command with its output in LOG; show one line with the time it takes, and on a terminal
# the task Ansible is at. Returns the command's status.
step() {
    local log=$1 title=$2 started=$SECONDS status=0 label pid
    shift 2
    steps_done=$((steps_done + 1))
    label="[$steps_done/$steps_total] $title"
    printf '\n===== %s =====\n' "$title" >>"$log"
    if [ -t 1 ]; then
        "$@" >>"$log" 2>&1 </dev/null &
        pid=$!
        while kill -0 "$pid" 2>/dev/null; do
            printf '\r\033[K%s … %ds  %.60s' "$label" $((SECONDS - started)) "$(current_task "$log")"
            sleep 1
        done
        wait "$pid" || status=$?
        printf '\r\033[K'
    else
        "$@" >>"$log" 2>&1 </dev/null || status=$?
    fi
    if [ "$status" -eq 0 ]; then
        printf '%s: %d s\n' "$label" $((SECONDS - started))
    else
        printf '%s: FAILED after %d s\n' "$label" $((SECONDS - started))
    fi
    return "$status"
}

current_task() { tail -c 4000 "$1" | sed -n 's/^TASK \[\(.*\)\].*/\1/p' | tail -n 1; }

# What went wrong in the last step of a log: each failing task's own words (of long ones the end, where the reason is); the end of the
# log when it was not Ansible that failed.
why_failed() {
    local log=$1 last
    last=$(awk '/^===== / { at = NR } END { print at + 0 }' "$log")
    tail -n "+$((last + 1))" "$log" | awk '
        function flush(   n) {
            if (!shown) return
            print head
            if (count > 12) { print lines[0]; print "    ..." }
            for (n = (count > 12 ? count - 10 : 0); n < count; n++) print lines[n]
            shown = count = 0
        }
        /^(TASK|RUNNING HANDLER) \[/ { task = $0; sub(/^[A-Z ]+\[/, "", task); sub(/\] \**$/, "", task) }
        /^fatal: / { flush(); host = $2; in_fatal = 1; shown = any = 1; head = "  " task " (" substr(host, 2, length(host) - 3) "):"; next }
        /^(ok|changed|skipping|PLAY|TASK|TASKS|NO MORE|\.\.\.)/ { in_fatal = 0 }
        in_fatal && /^    (msg|stderr|stdout|reason):/ { show = 1; sub(/^    [a-z]+: */, ""); if ($0 ~ /^[|>][-+]?$/) next }
        in_fatal && /^    [a-z_]+:/ { show = 0 }
        in_fatal && show && NF && $0 !~ /^.?.?$/ { sub(/^ +/, ""); lines[count++] = "    " $0 }
        END { flush(); exit !any }
    ' || tail -n 15 "$log" | sed 's/^/  /'
}
