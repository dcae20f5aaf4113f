#!/usr/bin/env bash
# user-mode-linux 7.2um1 (kernel 7.2.7): `initcall_blacklist=raid6_select_algo`, which saves a second of each boot on 6.1,
# does nothing: the benchmark of checksums belongs to `raid6_init` there. The kernel confirms the word all the same:
# "blacklisting initcall raid6_select_algo" is in its log, as it is for any name that no function has.
# Expected: a warning about a name that no initial call has, at the latest when all of them have run.
# For users: look for "initcall NAME blacklisted" in the log of each new kernel, not for "blacklisting initcall NAME".
. "$(dirname "$0")/guest.sh"
guest_root bookworm systemd=252.39-1~deb12u2
guest_kernel 7.2um1 forky 2.43-7
cat >"$work/script" <<'EOF2'
#!/bin/bash
dmesg >/finding.log
has() { grep -q "$1" /finding.log && echo "yes" || echo "no"; }
echo "kernel $(uname -r) confirmed $(has "blacklisting initcall raid6_select_algo")" \
    "left-out $(has "initcall raid6_select_algo blacklisted") measured $(has "raid6: .*gen()")"
EOF2
seen=$(guest_run 300 "$work/script" initcall_blacklist=raid6_select_algo)
echo "$seen"
expect "confirmed, left out, measured" "$(awk '{print $4, $6, $8}' <<<"$seen")" "yes no yes"
