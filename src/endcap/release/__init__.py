"""Immutable releases: written whole, verified, activated by one rename, served memory-mapped."""

from endcap.release.release import Release
from endcap.release.shelf import ReleaseInfo, activate, live, prune, releases, rollback, verify_release
from endcap.release.write import Part, write_release

__all__ = [
    "Part",
    "Release",
    "ReleaseInfo",
    "activate",
    "live",
    "prune",
    "releases",
    "rollback",
    "verify_release",
    "write_release",
]
