"""Registries of what plugins provide, by name and with the owning plugin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlx_host.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class PluginInfo:
    """Identifies a plugin: the name of its entry point, and its distribution with the version."""

    name: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class FailedPlugin:
    """A plugin that was skipped, and the reason."""

    info: PluginInfo
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.info.name!r} of {self.info}: {self.reason}"


class Registry(Generic[T]):
    """The objects of one kind that plugins registered; a name that several plugins registered is a conflict."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, list[tuple[T, PluginInfo]]] = {}

    @property
    def found(self) -> dict[str, T]:
        """The registered things by name, without conflicts."""
        return {name: entries[0][0] for name, entries in self._entries.items() if len(entries) == 1}

    @property
    def owners(self) -> dict[str, PluginInfo]:
        """The plugin that registered each name of `found`."""
        return {name: entries[0][1] for name, entries in self._entries.items() if len(entries) == 1}

    @property
    def conflicts(self) -> dict[str, list[PluginInfo]]:
        """The plugins that registered each name that several registered."""
        return {name: [info for _, info in entries] for name, entries in self._entries.items() if len(entries) > 1}

    def add(self, name: str, thing: T, owner: PluginInfo) -> None:
        self._entries.setdefault(name, []).append((thing, owner))

    def remove(self, owner: PluginInfo) -> None:
        """Remove everything that a plugin registered, which may resolve conflicts."""
        kept = {name: [entry for entry in entries if entry[1] != owner] for name, entries in self._entries.items()}
        self._entries = {name: entries for name, entries in kept.items() if entries}

    def of(self, owner: PluginInfo) -> dict[str, T]:
        """Return what one plugin registered."""
        return {name: thing for name, thing in self.found.items() if self.owners[name] == owner}

    def owned_by(self, distribution: str, names: Iterable[str]) -> list[str]:
        """Return those of the names that a distribution has registered."""
        owners = self.owners
        return [name for name in names if name in owners and owners[name].distribution == distribution]

    def conflict(self, name: str) -> str:
        """Describe a conflict, with every plugin that is part of it."""
        plugins = " and ".join(map(str, self.conflicts[name]))
        return f"{self.kind} {name!r} is registered by {plugins}; uninstall all but one of them"

    def check(self, name: str) -> None:
        """Raise UsageError if several plugins registered the name."""
        if name in self.conflicts:
            raise UsageError(f"{self.conflict(name)}.")
