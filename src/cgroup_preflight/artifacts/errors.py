"""What is wrong with an artifact: refused before anything was written."""

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy


class ArtifactError(UsageError):
    """An artifact that is left untouched, with the code of the report; `where` names it."""

    def __init__(self, code: str, name: str, message: str, *, remedy: Remedy, where: str = "") -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.code = code
        self.name = name


def unsafe(message: str, title: str = "pack it anew without that member") -> ArtifactError:
    """CGP304: a member that makes it unclear what unpacking would do."""
    return ArtifactError("CGP304", "unsafe-artifact", message, remedy=Remedy(title=title))


def corrupt(message: str) -> ArtifactError:
    """CGP305: truncated, damaged, or not what it says it is."""
    return ArtifactError("CGP305", "corrupt-artifact", message, remedy=Remedy(title="build it again"))


def too_large(message: str, option: str) -> ArtifactError:
    """CGP305: a limit against bombs was reached; `option` raises it."""
    remedy = Remedy(title=f"if it is meant to be that large, raise the limit with {option}")
    return ArtifactError("CGP305", "corrupt-artifact", message, remedy=remedy)


def unsupported(message: str, remedy: Remedy) -> ArtifactError:
    """CGP306: a format that is not written here."""
    return ArtifactError("CGP306", "unsupported-artifact", message, remedy=remedy)


def conflict(message: str, title: str) -> ArtifactError:
    """CGP303: other content stands where ours goes."""
    return ArtifactError("CGP303", "artifact-conflict", message, remedy=Remedy(title=title))


def other_binary(message: str) -> ArtifactError:
    """CGP302: the artifact holds another build of a program than the one that was tested."""
    remedy = Remedy(title="pack the file that was tested, or point `binary` at the file that is packed and run again")
    return ArtifactError("CGP302", "tested-binary", message, remedy=remedy)
