#!/usr/bin/env bash
# systemd 252.39 (Debian 12) and 257.13 (Debian 13): a unit with Delegate=yes is marked with the extended attributes
# user.delegate and trusted.delegate on its cgroup only if the system's manager made it. The manager of a user sets
# neither, although the kernel lets it set user.delegate.
# Expected: the mark that is meant for readers without privileges is set by both managers.
# For users: a program that looks for user.delegate takes a delegated scope of a user for one that is not delegated. Ask
# the user's manager instead: systemctl --user show --property=Delegate UNIT.
. "$(dirname "$0")/guest.sh"
guest_kernel 6.1um4+b13

try() { # try SUITE SYSTEMD: the mark of a scope of each manager
    rm -rf "$work/root"
    guest_root "$1" "systemd=$2" "libpam-systemd=$2" dbus-user-session python3
    cat >"$work/root/look" <<'EOF2'
#!/usr/bin/python3
import os, subprocess, sys
own = "/sys/fs/cgroup" + open("/proc/self/cgroup").read().strip().rpartition("::")[2]
def mark():
    try:
        return os.getxattr(own, "user.delegate").decode()
    except OSError as error:
        return os.strerror(error.errno).replace(" ", "-")
words = ["systemctl", *sys.argv[2:], "show", "--property=Delegate", "--value", os.path.basename(own)]
said = subprocess.run(words, capture_output=True, text=True).stdout.strip()
seen = mark()
os.setxattr(own, "user.delegate", b"1")
print(sys.argv[1], f"Delegate={said} mark={seen} set-by-hand={mark()}", flush=True)
EOF2
    chmod 755 "$work/root/look"
    chroot "$work/root" useradd --create-home --uid 1000 tester
    cat >"$work/script" <<'EOF2'
#!/bin/bash
systemctl --version | head -1
loginctl enable-linger tester
systemctl start user@1000.service
systemd-run --scope --quiet -p Delegate=yes /look system
setpriv --reuid=1000 --regid=1000 --clear-groups env XDG_RUNTIME_DIR=/run/user/1000 \
    systemd-run --user --scope --quiet -p Delegate=yes /look user --user
EOF2
    guest_run 240 "$work/script"
}
marks() { # marks OUTPUT NAME
    echo "$1"
    expect "$2: the system's manager" "$(awk '$1 == "system" {print $2, $3, $4}' <<<"$1")" "Delegate=yes mark=1 set-by-hand=1"
    expect "$2: the manager of a user" "$(awk '$1 == "user" {print $2, $3, $4}' <<<"$1")" \
        "Delegate=yes mark=No-data-available set-by-hand=1"
}
marks "$(try bookworm 252.39-1~deb12u2)" 252
marks "$(try trixie 257.13-1~deb13u1)" 257
