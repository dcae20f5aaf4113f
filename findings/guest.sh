# Sourced by the scripts beside it: a throwaway Linux with systemd as a process (user-mode-linux), made of pinned
# packages of Debian in a temporary folder. Needs root, apt, and mmdebstrap; nothing is installed on this machine.
set -euo pipefail

work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

# guest_kernel VERSION [SUITE LIBC]: Debian 12's user-mode-linux, unpacked; that of a later SUITE gets the C library there.
guest_kernel() {
    rm -rf "$work/kernel" "$work"/user-mode-linux_*.deb
    of_suite "${2:-}" "user-mode-linux=$1"
    dpkg-deb -x "$work"/user-mode-linux_*.deb "$work/kernel"
    find "$work/kernel" -path '*lib/uml/modules' -prune -o -name linux.uml -print -quit >"$work/kernel.path"
    [ -z "${2:-}" ] || with_libc "$2" "$3"
}

# of_suite SUITE PACKAGE=VERSION...: downloads packages; of this machine's own archive, or of another Debian's.
of_suite() {
    local suite=$1 options=(-qq -o APT::Sandbox::User=root)
    shift
    if [ -n "$suite" ]; then
        local state=$work/apt-$suite
        # A suite that moves may be served with a Release file that has expired.
        options+=(-o "Dir::Etc::sourcelist=$state/sources" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State=$state"
                  -o "Dir::State::status=$state/status" -o "Dir::Cache=$state" -o Acquire::Check-Valid-Until=false)
        if [ ! -d "$state" ]; then
            mkdir -p "$state/lists/partial" "$state/archives/partial"
            touch "$state/status"
            echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" \
                >"$state/sources"
            apt-get "${options[@]}" update
        fi
    fi
    (cd "$work" && apt-get "${options[@]}" download "$@")
}

# with_libc SUITE VERSION: lets the kernel, which is an ordinary program, start with a newer C library than this machine's.
with_libc() {
    local libraries=$work/libc/usr/lib/x86_64-linux-gnu
    rm -rf "$work/libc" "$work"/libc6_*.deb "$work"/patchelf_*.deb
    of_suite "$1" "libc6=$2"
    of_suite "" patchelf=0.14.3-1+b1
    dpkg-deb -x "$work"/libc6_*.deb "$work/libc"
    dpkg-deb -x "$work"/patchelf_*.deb "$work/patchelf"
    "$work/patchelf/usr/bin/patchelf" --set-interpreter "$libraries/ld-linux-x86-64.so.2" --set-rpath "$libraries" \
        "$(cat "$work/kernel.path")"
}

# guest_root SUITE PACKAGE[=VERSION]...: the root folder of the guest.
guest_root() {
    local suite=$1
    shift
    mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include="systemd-sysv,$(IFS=,; echo "$*")" "$suite" "$work/root" \
        >"$work/mmdebstrap.log" 2>&1 || { tail -5 "$work/mmdebstrap.log" >&2; exit 2; }
}

# guest_run SECONDS SCRIPT [WORDS]: boot with WORDS on the kernel command line, run SCRIPT as root by a service, print what
# it wrote.
guest_run() {
    rm -f "$work/root/finding.out"
    install -m 755 "$2" "$work/root/finding"
    finding_unit /finding.out
    timeout --kill-after=5 "$1" "$(cat "$work/kernel.path")" mem=512M rootfstype=hostfs "rootflags=$work/root" rw \
         con=null con0=null,fd:1 ${3:-} </dev/null >"$work/console" 2>&1 || true
    [ -s "$work/root/finding.out" ] || { echo "the guest wrote nothing" >&2; tail -5 "$work/console" >&2; exit 2; }
    cat "$work/root/finding.out"
}

# finding_unit FILE: the service that runs the script at the end of the boot and writes to FILE.
finding_unit() {
    mkdir -p "$work/root/etc/systemd/system/multi-user.target.wants"
    cat >"$work/root/etc/systemd/system/finding.service" <<UNIT
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/finding
ExecStopPost=sh -c 'exec systemctl poweroff --force --force >/dev/null 2>&1'
StandardOutput=append:$1
StandardError=inherit
UNIT
    ln -sf ../finding.service "$work/root/etc/systemd/system/multi-user.target.wants/finding.service"
}

# machine_run SECONDS SCRIPT SUITE KERNEL VERSION: as guest_run, in QEMU with two emulated CPUs: user-mode-linux has neither a
# second CPU nor cpusets. KERNEL is a package of Debian's; the root, which needs cpio, is unpacked into memory.
machine_run() {
    install -m 755 "$2" "$work/root/finding"
    finding_unit /dev/ttyS0
    of_suite "$3" "$4=$5"
    dpkg-deb -x "$work"/linux-*.deb "$work/machine"
    chroot "$work/root" sh -c 'find . -xdev -path ./proc -prune -o -path ./sys -prune -o -print | cpio -o -H newc --quiet' \
        >"$work/initrd"
    timeout --kill-after=5 "$1" qemu-system-x86_64 -accel tcg -smp 2 -m 2048 -nodefaults -display none -no-reboot \
         -kernel "$(find "$work/machine" -name 'vmlinuz*' | head -1)" -initrd "$work/initrd" \
         -append "rdinit=/sbin/init quiet" -serial "file:$work/serial" </dev/null >"$work/console" 2>&1 || true
    [ -s "$work/serial" ] || { echo "the machine wrote nothing" >&2; tail -5 "$work/console" >&2; exit 2; }
    tr -d '\r' <"$work/serial"
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
