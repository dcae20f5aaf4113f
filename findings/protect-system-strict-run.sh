#!/usr/bin/env bash
# systemd 252.39 (Debian 12), and the same with 257.13 (Debian 13) on the kernels of both: with `ProtectSystem=strict`, /run is
# read-only; but together with ProtectControlGroups=yes, ProtectKernelTunables=yes or ProtectProc=invisible it is writable
# again, with /run/lock, which is writable for every user. These settings imply MountAPIVFS=, which counts /run as an API file
# system. So a unit with more protection can write to more folders.
# Expected: systemd.exec(5) says that with strict everything is read-only except /dev, /proc and /sys.
# For users: add ReadOnlyPaths=-/run -/run/lock (and RuntimeDirectory= for what the service needs there).
. "$(dirname "$0")/guest.sh"
guest_kernel 6.1um4+b13
guest_root bookworm systemd=252.39-1~deb12u2

cat >"$work/script" <<'EOF2'
#!/bin/bash
systemctl --version | head -1
look() {
    local name=$1
    shift
    printf '%s\n' '[Service]' Type=oneshot ProtectSystem=strict "$@" StandardOutput=truncate:/look \
        'ExecStart=/bin/sh -c "for f in /run /run/lock /etc; do touch $$f/finding 2>/dev/null && echo $$f; done; true"' \
        >/run/systemd/system/look.service
    systemctl daemon-reload
    systemctl start look
    echo $name $(cat /look)
    rm -f /run/finding /run/lock/finding
}
look strict
look groups ProtectControlGroups=yes
look tunables ProtectKernelTunables=yes
look proc ProtectProc=invisible
look closed ProtectControlGroups=yes 'ReadOnlyPaths=-/run -/run/lock'
EOF2
seen=$(guest_run 120 "$work/script")
echo "$seen"
value() { sed -n "s/^$1 \\?//p" <<<"$seen"; }
expect "writable with strict alone" "$(value strict)" ""
expect "writable with ProtectControlGroups=yes" "$(value groups)" "/run /run/lock"
expect "writable with ProtectKernelTunables=yes" "$(value tunables)" "/run /run/lock"
expect "writable with ProtectProc=invisible" "$(value proc)" "/run /run/lock"
expect "writable with ReadOnlyPaths=" "$(value closed)" ""
