"""The program that waits inside a unit and pushes against its limits on request: a script for a POSIX `sh`.

It needs coreutils and util-linux, and no Python on the machine whose limits are proven. It runs under dash, busybox ash
and bash. What the limits do to it is read outside, from the kernel's files (`smoke.pushes`).

Call: `sh payload.sh GATE [STORE KEPT INPUT OUTPUT]`. GATE is a FIFO of this process alone. STORE and KEPT are new names in
file systems in memory, or empty: one for `push`, where huge pages save time, the other for `keep`, which has exactly as many
bytes as its line says. INPUT and OUTPUT are files in place of stdin and stdout; each word then gives stdout an empty line,
so that its reader need not look at OUTPUT again and again.

Each line on stdin is `KIND AMOUNT`. What it starts stays until the line `drop`, and ends with this process:

- `cpu COUNT`: processes that use CPU time.
- `load CPU,CPU`: one such process on each of these CPUs, from the line `go` on. Each says `bound`; `refused` where it may not
  run there.
- `tasks COUNT`: tasks until one is refused. Says `started` if none is.
- `push BYTES`: a process with memory, which the kernel kills first. Says `full` when it has all of it.
- `keep BYTES`: the same with the score of an ordinary process.
- `own BYTES`: the same as a program has it, with a page table, so that the kernel compares it with others when it kills.

Each line on stdout is a word and a number: `up` at the start, `over` when all has ended after `drop`, and `ended` for what
ended before that.
"""

SCRIPT = r"""PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C
gate=$1 started= enough= online= reader= lives=$BASH_VERSION$KSH_VERSION$YASH_VERSION$ZSH_VERSION
if [ $# -gt 1 ]; then exec 3>&1 <"$4" >>"$5"; else exec 3>/dev/null; fi
exec 2>/dev/null
umask 077
# Without a store: what is no file takes no memory, and memory is that of a process.
exec 6</dev/null 9</dev/null
case $2 in /?*) command exec 6<>"$2" && rm -f -- "$2" ;; esac
case $3 in /?*) command exec 9<>"$3" && rm -f -- "$3" ;; esac

say() { echo "$1"; echo >&3; }

# Uses CPU time until this payload ends: one that is killed cannot end its children.
burn() {
  while kill -0 $$; do
    i=0
    while [ $i -lt 5000 ]; do i=$((i + 1)); done
  done
}

# The same on one CPU, once nobody has the gate open for writing. Elsewhere it would compete with others than the model says.
bound() {
  exec 7<"$gate" 8>&-
  read -r online </sys/devices/system/cpu/online
  if [ "$online" != "$1" ]; then
    read -r self _ </proc/self/stat
    taskset -p -c "$1" "$self" >/dev/null || { say "refused $1"; exit; }
  fi
  say "bound $1"
  read -r _ <&7
  burn
}

# Starts tasks until one is refused, which ends a shell. They stay until nobody has the gate open for writing.
crowd() {
  exec 7<"$gate" 8>&-
  trap 'read -r _ <&7; wait' EXIT
  trap 'enough=1' TERM
  first
  groups=$((($1 - 1) / 250))
  if [ $groups -gt 0 ]; then words 249; fi
  while [ $groups -gt 0 ] && [ -z "$enough" ]; do
    { trap 'read -r _ <&7; wait' EXIT; some; } &
    groups=$((groups - 1))
  done
  words $((($1 - 1) % 250))
  some "$1"
}

# A word for each task: loops over words need no command.
words() {
  words= i=0
  while [ $i -lt "$1" ]; do
    words="$words x"
    i=$((i + 1))
  done
}

# Starts a task for each word, and one that says $1. Most end at once and are counted until their parent asks for them
# (kernel, pids.c), which takes some kilobytes each. The end of a command makes dash ask, so there is none in the loop.
# Shells that ask at once need tasks that live.
some() {
  if [ -n "$lives" ]; then
    for _ in $words; do
      read -r _ <&7 &
      case $enough in 1) break ;; esac
    done
  else
    for _ in $words; do
      : &
      case $enough in 1) break ;; esac
    done
  fi
  case $1 in ?*) { say "started $1"; [ -z "$lives" ] || read -r _ <&7; } & ;; esac
  read -r _ <&7
}

# The kernel kills this process before others.
first() { echo 1000 >/proc/self/oom_score_adj; }

# Memory in a file in memory, which is charged as any other: the kernel allocates it without a page table entry for each
# page. Without such a file, or where it is full, memory of a process. $2 is what the process does first, $3 the file.
fill() {
  ends
  before=$!
  trap stop TERM
  ($2; exec fallocate -l "$1" "/proc/self/fd/$3") &
  wait $!
  ended=$? before=$!
  trap - TERM
  if [ $ended -eq 0 ]; then
    say "full $1"
  elif [ $ended -gt 128 ]; then
    say "ended $ended"
  else
    hold "$1" "$2" /dev/zero
  fi
}

# Ends this process, and what it has started since `before`: an earlier number can have become that of another process.
stop() {
  [ "$!" = "$before" ] || kill -9 $reader $!
  wait
  exit
}

# Both ends of the gate, opened while nothing can make that wait.
ends() { exec 5<"$gate" 4>"$gate" 8>&-; }

# Memory as programs have it, with a page table: the buffer of a dd, which cannot write it to the gate as long as nobody
# reads. One byte can be read as soon as the buffer is full. Since 6.12 the kernel frees pages of zeros that are part of a
# huge page instead of swapping them (huge_memory.c); other bytes from $3 take twice the time.
hold() {
  before=$!
  trap stop TERM
  (exec dd bs=1 count=1 <&5 >/dev/null 5<&- 4>&-) &
  reader=$!
  ($2; exec dd if="$3" bs="$1" count=1 iflag=fullblock >&4 5<&- 4>&-) &
  exec 5<&- 4>&-
  wait $reader && say "full $1"
  reader=
  wait $!
}

own() { ends; hold "$1" "$2" /dev/urandom; }

# Starts one of these next to this process. A fork that is refused ends a shell, but not within `command eval`.
begin() { command eval '"$@" & started="$started $!"'; }

# Ends all that was started, and waits for that. The number of one that has ended can have become that of another process.
drop() {
  for pid in $started; do
    read -r stat <"/proc/$pid/stat" && case $stat in *") "?" $$ "*) kill "$pid" ;; esac
  done
  exec 8>&-
  wait
  started=
  : >/proc/self/fd/6
  : >/proc/self/fd/9
}

# Without a trap for SIGTERM here: one that a child has not yet replaced would lose the signal that ends the child.
exec 8<>"$gate"
say "up $$"
while read -r kind amount _; do
  case $kind in
  cpu) i=0; while [ $i -lt "$amount" ]; do begin burn; i=$((i + 1)); done ;;
  load) IFS=,; set -- $amount; unset IFS; for cpu; do begin bound "$cpu"; done ;;
  go) exec 8>&- ;;
  tasks) begin crowd "$amount" ;;
  push) begin fill "$amount" first 6 ;;
  keep) begin fill "$amount" : 9 ;;
  own) begin own "$amount" : ;;
  drop) drop; exec 8<>"$gate"; say "over 0" ;;
  esac
done
drop
"""
