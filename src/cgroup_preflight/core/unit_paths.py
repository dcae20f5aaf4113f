"""Where systemd finds unit files, the folder that wins first (systemd.unit(5), "System Unit Search Path")."""

PACKAGED = "/usr/lib/systemd/system"
#: Units that were made at run time, for example by systemd-run.
TRANSIENT = "/run/systemd/transient"
SYSTEM = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    TRANSIENT,
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    PACKAGED,
    "/run/systemd/generator.late",
)
#: Of users' managers, those before the one of packages; what is below a home directory comes from /etc/skel.
USER_BEFORE = (
    "/etc/skel/.config/systemd/user",
    "/etc/xdg/systemd/user",
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/share/systemd/user",
    "/usr/share/systemd/user",
    "/usr/local/lib/systemd/user",
)
#: Where people and packages put units: not what programs write there, and /lib where it is not /usr/lib.
WRITTEN = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    PACKAGED,
    "/lib/systemd/system",
)
