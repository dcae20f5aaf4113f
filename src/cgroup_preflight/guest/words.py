"""Names that the host's side and the files of a guest's root share. Pure."""

#: Where the guest mounts the input disk.
INPUT_DIR = "/run/preflight/in"
#: Where a root from elsewhere has systemd; its /sbin/init may be something else.
SYSTEMD = ("usr/lib/systemd/systemd", "lib/systemd/systemd")
QUICK_TARGET = "preflight-quick.target"
FULL_TARGET = "multi-user.target"
#: Kernel arguments for the starter. With the dot the kernel takes them for a module's and does not complain.
INPUT_ARGUMENT = "preflight.input"
CHANNEL_ARGUMENT = "preflight.channel"
#: Tells the starter to pause before it mounts the input disk: what is in memory then is the same in each run.
PAUSE_ARGUMENT = "preflight.pause"
#: What the starter says on the channel when it pauses; one byte as the answer lets it go on.
PAUSED = b"P"
