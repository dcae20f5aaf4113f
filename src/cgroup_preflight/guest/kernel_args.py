"""Kernel arguments that every engine passes. Pure."""

from cgroup_preflight.guest.overlay import CHANNEL_ARGUMENT, INPUT_ARGUMENT, QUICK_KERNEL_ARGS
from cgroup_preflight.guest.spec import BootMode


def common_kernel_args(*, mode: BootMode, input_device: str, channel_device: str) -> tuple[str, ...]:
    """Kernel arguments of every engine; a panic ends the machine at once, so that it is noticed."""
    return (
        "quiet",
        "panic=-1",
        "fsck.mode=skip",
        # Silent until something fails or takes long: then it belongs into the console tail.
        "systemd.show_status=auto",
        f"systemd.unit={mode}",
        *(QUICK_KERNEL_ARGS if mode is BootMode.QUICK else ()),
        f"{INPUT_ARGUMENT}={input_device}",
        f"{CHANNEL_ARGUMENT}={channel_device}",
    )
