"""Remedies that change the kernel command line, as commands for this host's boot loader. This is no check."""

import re

from cgroup_preflight.checks.base import Context
from cgroup_preflight.core.reading import Known, value_or
from cgroup_preflight.core.report import Remedy, RemedyFile
from cgroup_preflight.host import boot

Commands = tuple[tuple[str, ...], ...]

#: What boots a kernel of its own: no container, or WSL, which is a VM.
_BOOTS = ("none", "wsl")
_GRUB_FILE = "/etc/default/grub"
_REBOOT = (("reboot",),)


def add_parameter(context: Context, word: str, *, why: str, docs: str) -> Remedy:
    """Boot with `word`."""
    return _remedy(context, f"boot with the kernel parameter {word}", why, docs, add=word)


def remove_parameter(context: Context, word: str, *, why: str, docs: str) -> Remedy:
    """Boot without `word`."""
    return _remedy(context, f"remove {word} from the kernel command line and reboot", why, docs, remove=word)


def _remedy(context: Context, title: str, why: str, docs: str, *, add: str = "", remove: str = "") -> Remedy:
    facts = context.facts
    container = value_or(facts.container, "none")
    if container not in _BOOTS:
        why = f"{why}; this container ({container}) uses the kernel of its host: change it there"
        return Remedy(title=title, why=why, needs_root=True, persistent=True, docs=docs)
    if not isinstance(facts.boot_loader, Known):
        why = f"{why}; the boot loader of this host is unknown"
        return Remedy(title=title, why=why, needs_root=True, persistent=True, docs=docs)
    loader = facts.boot_loader.value
    if loader == boot.WSL:
        line = f"kernelCommandLine = {add}\n" if add else f"# without {remove}\nkernelCommandLine =\n"
        return Remedy(
            title=title, why=f"{why}; edit the file in Windows, then run wsl --shutdown", persistent=True, docs=docs,
            files=(RemedyFile(path="%UserProfile%\\.wslconfig", content=f"[wsl2]\n{line}"),),
            commands=(("wsl.exe", "--shutdown"),),
        )  # fmt: skip
    commands = _commands(loader, value_or(facts.kernel, ""), add, remove)
    return Remedy(title=title, why=why, commands=commands, needs_root=True, persistent=True, docs=docs)


def _commands(loader: str, release: str, add: str, remove: str) -> Commands:
    if loader == boot.GRUBBY:
        return (("grubby", "--update-kernel=ALL", f"--args={add}" if add else f"--remove-args={remove}"), *_REBOOT)
    if loader == boot.KERNEL_INSTALL:
        made = ("kernel-install", "add", release, f"/lib/modules/{release}/vmlinuz")
        return (_edit_line("/etc/kernel/cmdline", add, remove), made, *_REBOOT)
    if loader.endswith("cmdline.txt"):
        return (_edit_line(loader, add, remove), *_REBOOT)
    make: Commands = {
        boot.UPDATE_GRUB: (("update-grub",),),
        boot.GRUB2: (("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"),),
    }.get(loader, (("grub-mkconfig", "-o", "/boot/grub/grub.cfg"),))
    edit = f's/^GRUB_CMDLINE_LINUX="/&{add} /' if add else _without(remove)
    return (("sed", "-i", edit, _GRUB_FILE), *make, *_REBOOT)


def _edit_line(path: str, add: str, remove: str) -> tuple[str, ...]:
    """The whole command line is the first line of the file."""
    return ("sed", "-i", f"1s/$/ {add}/" if add else _without(remove), path)


def _without(word: str) -> str:
    escaped = re.sub(r"([.*\[\]\\^$/])", r"\\\1", word)
    return f"s/ *{escaped}//"
