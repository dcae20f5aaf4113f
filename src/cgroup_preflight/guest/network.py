"""A network for services in a guest, where the config allows one: QEMU's own translation, fixed addresses, no DHCP."""

from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.errors import GuestError
from cgroup_preflight.guest.session import Guest

#: QEMU's user network (qemu(1), -netdev user): the guest's address, its gateway, and the name server.
_ADDRESS, _GATEWAY, _RESOLVER = "10.0.2.15", "10.0.2.2", "10.0.2.3"
#: Device driver, address, flags and route by ioctl: the image has no programs for them (linux/sockios.h, linux/route.h).
_SCRIPT = r"""
import fcntl, os, socket, struct, subprocess, sys, time
address, gateway, resolver = sys.argv[1:]
subprocess.run(["modprobe", "virtio_net"], check=True)
for _ in range(100):
    names = [name for name in os.listdir("/sys/class/net") if name != "lo"]
    if names: break
    time.sleep(0.05)
name = names[0].encode()
def inet(text): return struct.pack("<HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    fcntl.ioctl(s, 0x8916, struct.pack("16s16s8x", name, inet(address)))        # SIOCSIFADDR
    fcntl.ioctl(s, 0x891C, struct.pack("16s16s8x", name, inet("255.255.255.0")))  # SIOCSIFNETMASK
    fcntl.ioctl(s, 0x8914, struct.pack("16sH22x", name, 0x1 | 0x40))            # SIOCSIFFLAGS: up, running
    route = struct.pack("@L16s16s16sHhLPhPLLH", 0, inet("0.0.0.0"), inet(gateway), inet("0.0.0.0"), 0x3, 0, 0, 0, 0, 0, 0, 0, 0)
    fcntl.ioctl(s, 0x890B, bytearray(route.ljust(120, b"\0")))                  # SIOCADDRT: up, gateway
with open("/etc/resolv.conf", "w") as file: file.write(f"nameserver {resolver}\n")
"""


def bring_up(guest: Guest) -> None:
    """Gives the guest its way out. Raises GuestError."""
    done = guest.run(["python3", "-I", "-c", _SCRIPT, _ADDRESS, _GATEWAY, _RESOLVER])
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise GuestError(f"{guest.spec.name}: no network: {words[-1][:200] if words else done.returncode}",
                         console=guest.console_tail(), remedy=Remedy(title="set network = false in [target]"))  # fmt: skip
