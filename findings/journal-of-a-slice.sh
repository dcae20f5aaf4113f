#!/usr/bin/env bash
# systemd 252.39 (Debian 12): `journalctl --unit=api.slice` prints what services directly in api.slice wrote, but nothing of
# services in a slice below it, such as api-slow.slice, although `systemctl status api.slice` and the limits of api.slice
# include them. So the log of a slice is not the log of all that its limits cover.
# Expected: all units below the slice, as systemctl counts them; or the manual names the one level.
# For users: name each slice of the tree, or match _SYSTEMD_CGROUP by its beginning.
. "$(dirname "$0")/guest.sh"
guest_kernel 6.1um4+b13
guest_root bookworm systemd=252.39-1~deb12u2 dbus

cat >"$work/script" <<'EOF2'
#!/bin/bash
systemctl --version | head -1
systemd-run --quiet --wait --slice=api.slice sh -c 'echo said-directly; sleep 2'
systemd-run --quiet --wait --slice=api-slow.slice sh -c 'echo said-below; sleep 2'
journalctl --sync
echo "cgroup $(journalctl -q -b -o json -g said-below | grep -o '/api.slice/api-slow.slice' | sort -u)"
echo "found $(journalctl -q -b -o cat --unit=api.slice | grep '^said-' | sort | paste -sd,)"
EOF2
seen=$(guest_run 120 "$work/script")
echo "$seen"
expect "the slice of the second service" "$(awk '$1 == "cgroup" {print $2}' <<<"$seen")" "/api.slice/api-slow.slice"
expect "what journalctl --unit=api.slice finds" "$(awk '$1 == "found" {print $2}' <<<"$seen")" "said-directly"
