"""Discovery: finds the plugins, asks what they bring, sets broken ones aside and refuses duplicate names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

import pluggy

from mlx_host import hookspecs
from mlx_host.backend import Backend, Source
from mlx_host.errors import UsageError
from mlx_host.hookspecs import GROUP
from mlx_host.parsing import Parser

# What to install for the backends that this project itself provides.
KNOWN_BACKENDS = {name: f"mlx-host-{name}" for name in ("lm", "vlm", "flux", "embeddings", "whisper")}

T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from: its entry point's name, its distribution and that distribution's version."""

    name: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Broken:
    """A plugin that was set aside, and why."""

    origin: Origin
    reason: str


@dataclass
class Brought(Generic[T]):
    """Things that plugins bring, by name; a name that two plugins bring belongs to neither."""

    found: dict[str, T] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    conflicts: dict[str, list[Origin]] = field(default_factory=dict)

    def add(self, name: str, thing: T, origin: Origin) -> None:
        if name in self.conflicts:
            self.conflicts[name].append(origin)
        elif name in self.found:
            del self.found[name]
            self.conflicts[name] = [self.origins.pop(name), origin]
        else:
            self.found[name] = thing
            self.origins[name] = origin

    def refuse_conflict(self, kind: str, name: str) -> None:
        if name in self.conflicts:
            both = " and ".join(str(origin) for origin in self.conflicts[name])
            raise UsageError(f"{kind} {name!r} is brought by {both}; uninstall all of them but one.")


def parser_key(name: str) -> str:
    """Fold a parser's name: case and the choice of `-` or `_` do not matter."""
    return name.lower().replace("-", "_")


class Plugins:
    """The plugins of this process and what they bring.

    `builtins` are core's own plugins by name; they go through the same door. Everything installed behind the
    entry-point group `mlx_host` follows.
    """

    def __init__(self, builtins: Mapping[str, object], installed: Iterable[EntryPoint] | None = None) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self.loaded: dict[str, Origin] = {}
        self.broken: list[Broken] = []
        self.backends: Brought[Backend[Any]] = Brought()
        self.parsers: Brought[type[Parser]] = Brought()
        from mlx_host import __version__

        for name, plugin in builtins.items():
            self._register(plugin, Origin(name, "mlx-host", __version__))
        for point in entry_points(group=GROUP) if installed is None else installed:
            self._load(point)
        self._collect()

    @property
    def hook(self) -> Any:
        return self._manager.hook

    def hooks_of(self, key: str) -> list[str]:
        """Name the hooks that a loaded plugin implements."""
        return sorted(caller.name for caller in self._manager.get_hookcallers(self._manager.get_plugin(key)) or [])

    def _load(self, point: EntryPoint) -> None:
        dist = point.dist
        origin = Origin(point.name, dist.name if dist else "?", dist.version if dist else "?")
        try:
            plugin = point.load()
        except Exception as error:  # noqa: BLE001  whatever a plugin's import raises, the host goes on without it
            self.broken.append(Broken(origin, f"import failed: {type(error).__name__}: {error}"))
            return
        self._register(plugin, origin)

    def _register(self, plugin: object, origin: Origin) -> None:
        key = f"{origin.distribution}:{origin.name}"
        try:
            self._manager.register(plugin, key)
        except (pluggy.PluginValidationError, ValueError) as error:
            # A failed registration leaves the hooks that came before the fault in place.
            if self._manager.get_plugin(key) is not None:
                self._manager.unregister(name=key)
            self.broken.append(Broken(origin, f"does not fit the hooks: {' '.join(str(error).split())}"))
            return
        unknown = [caller.name for caller in self._manager.get_hookcallers(plugin) or [] if not caller.has_spec()]
        if unknown:
            self._manager.unregister(plugin)
            self.broken.append(Broken(origin, "; ".join(_unknown_hook(name) for name in unknown)))
            return
        self.loaded[key] = origin

    def _collect(self) -> None:
        self._bring("register_backends", Backend, lambda b: (b.name,), self.backends)
        self._bring(
            "register_parsers", Parser, lambda p: {parser_key(n): None for n in (p.name, *p.aliases)}, self.parsers
        )

    def _bring(self, hook: str, kind: type, names: Callable[[Any], Iterable[str]], into: Brought[Any]) -> None:
        for impl in list(getattr(self.hook, hook).get_hookimpls()):
            origin = self.loaded[impl.plugin_name]
            try:
                things = list(impl.function())
                strange = [
                    t for t in things if not (isinstance(t, kind) or (isinstance(t, type) and issubclass(t, kind)))
                ]
                if strange:
                    raise TypeError(f"returned {strange[0]!r}, which is no {kind.__name__}")
            except Exception as error:  # noqa: BLE001  as for imports: one plugin's fault is not the host's
                self._manager.unregister(impl.plugin)
                del self.loaded[impl.plugin_name]
                self.broken.append(Broken(origin, f"{hook} failed: {type(error).__name__}: {error}"))
                continue
            for thing in things:
                for name in names(thing):
                    into.add(name, thing, origin)

    def backend(self, name: str) -> Backend[Any]:
        """Find a backend by name; UsageError says what there is and what to install."""
        self.backends.refuse_conflict("backend", name)
        if name in self.backends.found:
            return self.backends.found[name]
        there_is = ", ".join(sorted(self.backends.found)) or "none"
        raise UsageError(f"No backend {name!r} is installed (there is: {there_is}). {self._remedy('backend', name)}")

    def parser(self, name: str) -> type[Parser]:
        """Find a parser by name or alias; UsageError says what there is."""
        key = parser_key(name)
        self.parsers.refuse_conflict("parser", key)
        if key in self.parsers.found:
            return self.parsers.found[key]
        there_is = ", ".join(sorted({p.name for p in self.parsers.found.values()})) or "none"
        raise UsageError(f"No parser {name!r} is installed (there is: {there_is}). {self._remedy('parser', key)}")

    def _remedy(self, kind: str, name: str) -> str:
        for broken in self.broken:
            if name in (broken.origin.name, broken.origin.distribution.removeprefix("mlx-host-")):
                return f"The plugin {broken.origin.name!r} of {broken.origin} was set aside: {broken.reason}."
        installed = self.backends.found if kind == "backend" else self.parsers.found
        close = difflib.get_close_matches(name, [*installed, *(KNOWN_BACKENDS if kind == "backend" else ())], n=1)
        if kind == "backend":
            if name in KNOWN_BACKENDS:
                return f"Install it: pip install {KNOWN_BACKENDS[name]}"
            if close:
                return f"Did you mean {close[0]!r}?"
            return "Install the package that brings it; `mlx-host plugins` lists what is installed."
        if close:
            return f"Did you mean {close[0]!r}?"
        return f"Install the package that brings it, for example: pip install mlx-host-parser-{name.replace('_', '-')}"

    def source(self, ref: str) -> Source:
        """Find out where a model comes from; UsageError if nobody knows it."""
        source: Source | None = self.hook.resolve_source(ref=ref)
        if source is None:
            raise UsageError(
                f"--model {ref!r}: there is no such folder or file, and no plugin knows it. Give a local folder, "
                "a Hugging Face id such as 'mlx-community/Qwen3-4B-4bit', or a name that a plugin resolves."
            )
        return source


def _unknown_hook(name: str) -> str:
    known = [n for n in vars(hookspecs) if hasattr(getattr(hookspecs, n), f"{GROUP}_spec")]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"the hooks are {', '.join(known)}"
    return f"there is no hook {name!r}; {hint}"
