"""The one unit of ours in a guest without an agent: it mounts the input disk, and becomes the shell at the first line.

Everything else that the host needs, it starts from that shell: standard programs at further lines. Pure.
"""

from cgroup_preflight.guest.words import CHANNEL_ARGUMENT, INPUT_ARGUMENT

PATH = "/usr/local/lib/preflight-start"
UNIT = "preflight-lines.service"
#: What the shell says when it reads commands; the release of the kernel follows.
GREETING = "preflight-ready "
#: As of a login of root, without what a distribution adds.
PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: `+i` and the script by a path: a shell at a terminal would take itself for interactive, and print prompts.
TEXT = f"""#!/bin/sh
# Mounts this boot's input disk, and becomes the shell at the line from the host.
set -eu
export PATH={PROGRAM_PATH}
read -r words < /proc/cmdline
for word in $words; do
    case $word in
        {INPUT_ARGUMENT}=*) input=${{word#*=}} ;;
        {CHANNEL_ARGUMENT}=*) channel=${{word#*=}} ;;
    esac
done
attach() {{
    case $input in
        # The initial RAM disk has loaded the driver, and a root from elsewhere may have no modprobe.
        /dev/vd*) [ -e "$input" ] || modprobe virtio_blk ;;
    esac
    mount -t ext4 -o nosuid,nodev,noatime "$input" /run/preflight/in
}}
attach &
turns=0
until [ -e "$channel" ]; do
    [ "$turns" -gt 0 ] || modprobe --all virtio_pci virtio_console || :
    turns=$((turns + 1))
    [ "$turns" -lt 400 ]
    sleep 0.05
done
exec 0<>"$channel" 1>&0
[ ! -t 0 ] || stty raw -echo
if ! wait $!; then
    echo "the input disk could not be mounted" >&2
    exit 1
fi
cd /
read -r release < /proc/sys/kernel/osrelease
printf '{GREETING}%s\\n' "$release"
exec sh +i
"""


def unit_text(description: str, start: str, more: str = "") -> str:
    """The unit that starts the guest's end of the line to the host; `more` are lines of [Service].

    Delegate: each command gets a cgroup of its own. Without default dependencies, both targets can use the same unit.
    """
    return f"""[Unit]
Description={description}
DefaultDependencies=no
After=systemd-journald.socket systemd-remount-fs.service
Conflicts=shutdown.target
Before=shutdown.target
# Without it nobody can talk to the guest: the host learns of that by the line's end, not by waiting.
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate

[Service]
ExecStart={start}
Delegate=yes
OOMScoreAdjust=-900
TasksMax=infinity
{more}StandardError=tty
TTYPath=/dev/console
"""


_LAST_WORDS = (
    "# Its last words belong into the console tail, for when they are needed nobody can ask the journal any more.\n"
)
#: The unit of a root without an agent.
UNIT_TEXT = unit_text(
    "cgroup-preflight: the lines of the host", PATH,
    f"RuntimeDirectory=preflight preflight/in\n{_LAST_WORDS}StandardInput=null\nStandardOutput=null\n",
)  # fmt: skip
#: The unit of a root with one.
AGENT_UNIT_TEXT = unit_text("cgroup-preflight guest agent", PATH, f"{_LAST_WORDS}StandardOutput=null\n")
