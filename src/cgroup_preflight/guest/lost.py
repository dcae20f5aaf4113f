"""The error of a guest that does not answer, with the console lines that may say why."""

from collections.abc import Sequence

from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.spec import GuestError
from cgroup_preflight.guest.store import damaged

_READ = Remedy(title="read the console lines; give the guest more memory or time if it ran out of one of them")


def failed(guest: str, what: str, console: Sequence[str]) -> GuestError:
    """The error of the guest with this name that `what` happened to."""
    return GuestError(f"{guest} {what}", console=tuple(console), remedy=_READ)


def lost(guest: str, image: RootImage, what: str, console: Sequence[str]) -> GuestError:
    """The same, but a damaged image is its cause; takes seconds."""
    if not (name := damaged(image.root.parent)):
        return failed(guest, what, console)
    remedy = Remedy(title="remove the image: the next run builds it again",
                    commands=(("cgroup-preflight", "guest", "remove", image.name),))  # fmt: skip
    text = f"{guest}: its image {image.name} is damaged ({name}); the guest {what}"
    return GuestError(text, console=tuple(console), remedy=remedy)
