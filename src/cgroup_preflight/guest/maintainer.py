"""What the maintainer scripts of the packages of a guest write, in one script of a third of a second. Pure.

The scripts one after the other take longer than to unpack all files of the image. Those of the known packages have been
read, in Debian 12, 13 and 14: CONFIGURE has the results of `preinst install` and `postinst configure` on a new system, as a
comparison with the files and modes of mmdebstrap's variant minbase showed. dpkg installs packages with other scripts.
"""

import re

#: Packages of which CONFIGURE does what their preinst and postinst do; a kernel has its version in its name.
_KNOWN = re.compile(
    r"adduser|apt|base-files|base-passwd|bash|coreutils|cpio|dash|dbus|dbus-daemon|dbus-system-bus-common"
    r"|dbus-user-session|debconf|debian-archive-keyring|debianutils|dmsetup|dpkg|dracut|e2fsprogs|gzip"
    r"|init-system-helpers|initramfs-tools|initramfs-tools-core|klibc-utils|kmod|libc-bin|libc6|libext2fs2t64"
    r"|libgcrypt20|libgssapi-krb5-2|libpam-modules|libpam-modules-bin|libpam-runtime|libpam-systemd|libpam0g"
    r"|libpython3\.[0-9]+-minimal|libreadline8t64|libselinux1|libsystemd-shared|linux-base|linux-image-[0-9].*"
    r"|linux-image-cloud-amd64|linux-modules-[0-9].*|login|login\.defs|mawk|netbase|passwd|perl-base|procps|python3"
    r"|python3-minimal|python3-packaging|python3\.[0-9]+|python3\.[0-9]+-minimal|readline-common|sudo|systemd"
    r"|systemd-sysv|tar|tzdata|udev|usr-is-merged|util-linux|util-linux-extra"
)

#: For `sh -eu` in the root of a guest. There may be no /proc and no device there.
CONFIGURE = r"""
umask 022
export PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
# An ordinary user cannot make devices; what is written there is removed with it.
[ -e /dev/null ] || : > /dev/null
# libc-bin: nothing below starts without it.
cp -p /usr/share/libc-bin/nsswitch.conf /etc/nsswitch.conf
ldconfig
# The longest step runs next to all others.
[ ! -e /usr/bin/python3 ] || python3 -E -S -m compileall -q /usr/lib/python3.* /usr/lib/python3 /usr/share/python3 &
compiling=$!
# base-passwd, passwd, login
cp /usr/share/base-passwd/passwd.master /etc/passwd
cp /usr/share/base-passwd/group.master /etc/group
: > /etc/subuid
: > /etc/subgid
pwconv
grpconv
# systemd and dbus: the identifiers that systemd-sysusers and adduser choose on a new system.
groupadd --gid 999 systemd-journal
groupadd --gid 998 systemd-network
useradd --system --uid 998 --gid 998 --home-dir / --no-create-home --shell /usr/sbin/nologin \
    --comment 'systemd Network Management' systemd-network
groupadd --gid 997 messagebus
useradd --system --uid 997 --gid 997 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin \
    --comment 'System Message Bus' messagebus
chmod 640 /etc/shadow /etc/gshadow
dpkg-statoverride --update --add root messagebus 4754 /usr/lib/dbus-1.0/dbus-daemon-launch-helper
mkdir -p /var/lib/dbus
# udev, which comes with a kernel; its database of hardware is not used.
if [ -e /usr/bin/udevadm ]; then
    for group in input sgx kvm render; do
        groupadd --system "$group"
    done
    ! grep -qs '^g clock ' /usr/lib/sysusers.d/debian-udev.conf || groupadd --system clock
fi
# base-files
ln -s debian /etc/dpkg/origins/default
cp -p /usr/share/base-files/dot.profile /root/.profile
cp -p /usr/share/base-files/dot.bashrc /root/.bashrc
cp -p /usr/share/base-files/profile /etc/profile
cp -p /usr/share/base-files/motd /etc/motd
mkdir -p /mnt /srv /opt /etc/opt /var/opt /media /usr/local/share/man /usr/local/bin /usr/local/games /usr/local/lib \
    /usr/local/include /usr/local/libexec /usr/local/sbin /usr/local/src /usr/local/etc
ln -s share/man /usr/local/man
mkdir -p /run/lock /var/mail
chmod 1777 /run/lock
chgrp mail /var/mail
chmod 2775 /var/mail
ln -s ../mail /var/spool/mail
rmdir /var/run /var/lock
ln -s /run /var/run
ln -s /run/lock /var/lock
: > /var/log/wtmp
: > /var/log/btmp
: > /var/log/lastlog
chgrp utmp /var/log/wtmp /var/log/btmp /var/log/lastlog
chmod 664 /var/log/wtmp /var/log/lastlog
chmod 660 /var/log/btmp
# bash, cpio, debianutils, mawk, tar, util-linux
cp -p /usr/share/debianutils/shells /etc/shells
update-shells
update-alternatives --quiet --install /usr/bin/which which /usr/bin/which.debianutils 0
update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5 --slave /usr/bin/nawk nawk /usr/bin/mawk
update-alternatives --quiet --install /usr/sbin/rmt rmt /usr/sbin/rmt-tar 50
update-alternatives --quiet --install /usr/bin/pager pager /bin/more 50
[ ! -e /usr/bin/mt-gnu ] || update-alternatives --quiet --install /usr/bin/mt mt /usr/bin/mt-gnu 10
# libpam-modules, libpam-runtime, libpam-systemd
: > /etc/environment
: > /etc/security/opasswd
chmod 600 /etc/security/opasswd
pam-auth-update --package --force
# sudo
chmod 440 /etc/sudoers
# python3
if [ -e /usr/bin/python3 ]; then
    mkdir -p /etc/python3
    printf '[DEFAULT]\n# how to byte-compile (comma separated: standard, optimize)\nbyte-compile = standard\n' \
        > /etc/python3/debian_config
fi
for folder in /usr/lib/python3.*; do
    [ -e "$folder" ] || continue
    mkdir -p "/usr/local/lib/${folder##*/}/dist-packages"
done
# readline-common, tzdata, netbase
[ ! -e /usr/share/readline/inputrc ] || cp -p /usr/share/readline/inputrc /etc/inputrc
ln -s /usr/share/zoneinfo/Etc/UTC /etc/localtime
[ ! -e /var/lib/dpkg/info/netbase.list ] ||
    printf 'default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n\n' > /etc/networks
# systemd, and the links of packages with timers
enable() {
    mkdir -p "/etc/systemd/system/$1.wants"
    ln -s "/lib/systemd/system/$2" "/etc/systemd/system/$1.wants/${3:-$2}"
}
enable getty.target getty@.service getty@tty1.service
enable multi-user.target remote-fs.target
enable sysinit.target systemd-pstore.service
for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim; do
    [ ! -e "/lib/systemd/system/$timer.timer" ] || enable timers.target "$timer.timer"
done
[ ! -e /etc/credstore ] || chmod 700 /etc/credstore /etc/credstore.encrypted
ln -sf ../proc/self/mounts /etc/mtab
mkdir -p -m 700 /var/lib/private /var/cache/private /var/log/private /root/.ssh
mkdir -p /var/lib/systemd/coredump /var/lib/systemd/pstore /var/log/journal
chgrp systemd-journal /var/log/journal
chmod 2755 /var/log/journal
# systemd 262's needs /proc; the catalogue only explains lines of the journal.
journalctl --update-catalog 2>/dev/null || :
# Kernels; their initial RAM disk is not used.
for folder in /usr/lib/modules/*; do
    [ -d "$folder" ] || continue
    depmod "${folder##*/}"
    # For `modprobe symbol:NAME` alone.
    rm -f "$folder"/modules.symbols*
done
rm -f /var/cache/ldconfig/aux-cache /var/log/alternatives.log
wait "$compiling"
"""


def is_known(package: str) -> bool:
    """Whether CONFIGURE does what the maintainer scripts of `package` do."""
    return _KNOWN.fullmatch(package) is not None
