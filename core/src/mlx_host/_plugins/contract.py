"""The versions of mlx-host that a plugin is built for, as its distribution declares them in its dependencies."""

from __future__ import annotations

from importlib.metadata import Distribution

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mlx_host.errors import PluginError

CORE = "mlx-host"


def contract_range(version: str) -> str:
    """Return the version specifier of all releases with the same plugin contract.

    Minor releases may change the contract while the major version is 0, and major releases afterwards.
    """
    release = Version(version)
    following = f"0.{release.minor + 1}" if release.major == 0 else f"{release.major + 1}"
    return f">={release.major}.{release.minor},<{following}"


def check_contract(dist: Distribution, installed: str) -> None:
    """Raise PluginError if a distribution depends on other versions of mlx-host than the installed one."""
    for line in dist.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            # Another dependency, in a format that only the tool that built the package understands.
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if canonicalize_name(requirement.name) == CORE and applies and not _admits(requirement, installed):
            raise PluginError(
                f"is built for mlx-host{requirement.specifier}, and mlx-host {installed} is installed; install a "
                f"version of {dist.name} for mlx-host{contract_range(installed)}"
            )


def _admits(requirement: Requirement, installed: str) -> bool:
    # A development release, such as 0.2.0.dev1, has the contract of the release that it precedes.
    versions = (installed, Version(installed).base_version)
    return any(requirement.specifier.contains(version, prereleases=True) for version in versions)
