# Sourced by the scripts beside it: a throwaway Linux with systemd as a process (user-mode-linux), made of pinned
# packages of Debian in a temporary folder. Needs root, apt, and mmdebstrap; nothing is installed on this machine.
set -euo pipefail

work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

# guest_kernel VERSION: Debian 12's user-mode-linux, unpacked.
guest_kernel() {
    (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "user-mode-linux=$1" && dpkg-deb -x user-mode-linux_*.deb kernel)
    find "$work/kernel" -path '*lib/uml/modules' -prune -o -name linux.uml -print -quit >"$work/kernel.path"
}

# guest_root SUITE PACKAGE[=VERSION]...: the root folder of the guest.
guest_root() {
    local suite=$1
    shift
    mmdebstrap --quiet --variant=minbase --include="systemd-sysv,$(IFS=,; echo "$*")" "$suite" "$work/root" \
        >"$work/mmdebstrap.log" 2>&1 || { tail -5 "$work/mmdebstrap.log" >&2; exit 2; }
}

# guest_run SECONDS SCRIPT [INIT]: boot, run SCRIPT as root by a service (or as INIT's own script), print what it wrote.
guest_run() {
    rm -f "$work/root/finding.out"
    install -m 755 "$2" "$work/root/finding"
    mkdir -p "$work/root/etc/systemd/system/multi-user.target.wants"
    cat >"$work/root/etc/systemd/system/finding.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/finding
ExecStopPost=sh -c 'exec systemctl poweroff --force --force >/dev/null 2>&1'
StandardOutput=append:/finding.out
StandardError=inherit
UNIT
    ln -sf ../finding.service "$work/root/etc/systemd/system/multi-user.target.wants/finding.service"
    timeout --kill-after=5 "$1" "$(cat "$work/kernel.path")" mem=512M rootfstype=hostfs "rootflags=$work/root" rw \
         con=null con0=null,fd:1 </dev/null >"$work/console" 2>&1 || true
    [ -s "$work/root/finding.out" ] || { echo "the guest wrote nothing" >&2; tail -5 "$work/console" >&2; exit 2; }
    cat "$work/root/finding.out"
}

# expect NAME VALUE PATTERN: what was seen must match, else the finding no longer holds.
expect() {
    if [[ $2 =~ ^($3)$ ]]; then
        echo "as described: $1 = $2"
    else
        echo "CHANGED: $1 = $2, described as $3"
        exit 1
    fi
}
