"""A plan, and files next to it that change what it says or do not."""

from tests.unit.artifacts.making import UNITS

NESTED = """
[slices.shop-api]
MemoryMax = "192M"
[services.user-api]
binary = "dist/user-api"
slice = "shop-api"
CPUQuota = "50%"
[services.user-api.Environment]
MODE = "fast"
"""
_BIGGER = b"[Service]\nCPUQuota=90%\n[Slice]\nMemoryMax=1G\n"
#: Path, content, whether it changes the plan; tests/lab/test_inject.py asks systemd itself.
OVERRIDES = {
    "slice in etc": ("etc/systemd/system/shop-api.slice", _BIGGER, False),
    "slice in lib, the same folder by a link": ("lib/systemd/system/shop-api.slice", _BIGGER, False),
    "masked slice": ("etc/systemd/system/shop-api.slice", b"", True),
    "another slice in etc": ("etc/systemd/system/other.slice", _BIGGER, False),
    "drop-in of our name, less specific": (f"{UNITS}/service.d/10-cgroup-preflight.conf", _BIGGER, False),
    "later drop-in": (f"{UNITS}/user-api.service.d/90-x.conf", _BIGGER, True),
    "later drop-in that says the same": (f"{UNITS}/user-api.service.d/90-x.conf", b"[Service]\nCPUQuota=50%\n", False),
    "later drop-in about something else": (f"{UNITS}/user-api.service.d/90-x.conf", b"[Service]\nUser=x\n", False),
    "setting in a comment": (f"{UNITS}/user-api.service.d/90-x.conf", b"[Service]\n#CPUQuota=90%\n", False),
    "setting in another section": (f"{UNITS}/user-api.service.d/90-x.conf", b"[X-Old]\nCPUQuota=90%\n", False),
    "continued line": (f"{UNITS}/user-api.service.d/90-x.conf", b"[Service]\nCPUQuota=\\\n90%\n", True),
    "byte order mark": (f"{UNITS}/user-api.service.d/90-x.conf", b"\xef\xbb\xbf[Service]\nCPUQuota=90%\n", True),
    "reset": (f"{UNITS}/user-api.service.d/90-x.conf", b"[Service]\nCPUQuota=\n", True),
    "earlier drop-in": (f"{UNITS}/user-api.service.d/05-x.conf", _BIGGER, False),
    "no drop-in": (f"{UNITS}/user-api.service.d/90-x.txt", _BIGGER, False),
    "for every service": (f"{UNITS}/service.d/90-x.conf", _BIGGER, True),
    "by a prefix of the name": ("run/systemd/system/user-.service.d/90-x.conf", _BIGGER, True),
    "by another prefix": ("run/systemd/system/usr-.service.d/90-x.conf", _BIGGER, False),
    "later drop-in of a slice": (f"{UNITS}/shop-api.slice.d/10-x.conf", _BIGGER, True),
    "earlier drop-in of a slice": (f"{UNITS}/shop-api.slice.d/05-x.conf", _BIGGER, False),
    "for slices of a prefix": (f"{UNITS}/shop-.slice.d/10-x.conf", _BIGGER, True),
    "set by set-property": ("etc/systemd/system.control/shop-api.slice.d/50-MemoryMax.conf", _BIGGER, True),
    "another variable": (f"{UNITS}/user-api.service.d/90-x.conf", b"[Service]\nEnvironment=A=b\n", False),
    "our variable": (f"{UNITS}/user-api.service.d/90-x.conf", b"[Service]\nEnvironment=MODE=slow\n", True),
    "no variables": (f"{UNITS}/user-api.service.d/90-x.conf", b"[Service]\nEnvironment=\n", True),
    "user's manager": ("etc/systemd/user/shop-api.slice", _BIGGER, False),
}
