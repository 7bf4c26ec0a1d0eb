"""Discovery: finds the plugins, asks what they bring, sets broken ones aside and refuses duplicate names."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pluggy

from mlx_host import hookspecs
from mlx_host._settings import option_fault
from mlx_host.api import Api, RequestRecord
from mlx_host.backend import Backend, Options, Source
from mlx_host.errors import MlxHostError, PluginError, UsageError
from mlx_host.hookspecs import GROUP
from mlx_host.parsing import Parser

if TYPE_CHECKING:
    import click

log = logging.getLogger(__name__)

# What to install for the backends that this project itself provides.
KNOWN_BACKENDS = {name: f"mlx-host-{name}" for name in ("lm", "vlm", "flux", "embeddings", "whisper")}
# An alias, or a name that nobody has, is no package's: which one to install is not to be guessed from it.
PARSER_PACKAGES = "Each family is a package of its own that is named after it, such as mlx-host-parser-qwen3."
OWN = "mlx-host"

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

    def __str__(self) -> str:
        return f"plugin {self.origin.name!r} of {self.origin}: {self.reason}"


@dataclass
class Brought(Generic[T]):
    """Things of one kind that plugins bring, by name; a name that two plugins bring belongs to neither."""

    kind: str
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

    def of(self, origin: Origin) -> dict[str, T]:
        """What one plugin brings."""
        return {name: thing for name, thing in self.found.items() if self.origins[name] == origin}

    def conflict(self, name: str) -> str:
        """Say who brings a name that several bring."""
        several = " and ".join(str(origin) for origin in self.conflicts[name])
        return f"{self.kind} {name!r} is brought by {several}; uninstall all of them but one"

    def refuse_conflict(self, name: str) -> None:
        if name in self.conflicts:
            raise UsageError(f"{self.conflict(name)}.")


def parser_key(name: str) -> str:
    """Fold a parser's name: case and the choice of `-` or `_` do not matter."""
    return name.lower().replace("-", "_")


class Plugins:
    """The plugins of this process and what they bring.

    `builtins` are core's own plugins by name; they go through the same door. Everything installed behind the
    entry-point group `mlx_host` follows. `loaded` is keyed by DISTRIBUTION:ENTRY-POINT.
    """

    def __init__(self, builtins: Mapping[str, object], installed: Iterable[EntryPoint] | None = None) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self.loaded: dict[str, Origin] = {}
        self.broken: list[Broken] = []
        self.backends: Brought[Backend[Any]] = Brought("backend")
        self.parsers: Brought[type[Parser]] = Brought("parser")
        self.commands: Brought[click.Command] = Brought("command")
        from mlx_host import __version__

        for name, plugin in builtins.items():
            self._register(plugin, Origin(name, OWN, __version__))
        for point in entry_points(group=GROUP) if installed is None else installed:
            self._load(point)
        for key, origin in list(self.loaded.items()):
            self._collect(key, origin)

    @property
    def hook(self) -> Any:
        return self._manager.hook

    def hooks_of(self, key: str) -> list[str]:
        """Name the hooks that a loaded plugin implements."""
        return sorted(caller.name for caller in self._manager.get_hookcallers(self._manager.get_plugin(key)) or [])

    def faults(self) -> list[str]:
        """Say all that is wrong with the installed plugins."""
        kinds: tuple[Brought[Any], ...] = (self.backends, self.parsers, self.commands)
        clashes = [brought.conflict(name) for brought in kinds for name in brought.conflicts]
        return [*map(str, self.broken), *clashes]

    def _load(self, point: EntryPoint) -> None:
        dist = point.dist
        origin = Origin(point.name, dist.name if dist else "?", dist.version if dist else "?")
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever it raises, the host goes on without it
            self.broken.append(Broken(origin, f"import failed: {_said(error)}"))
            return
        self._register(plugin, origin)

    def _register(self, plugin: object, origin: Origin) -> None:
        key = f"{origin.distribution}:{origin.name}"
        try:
            self._manager.register(plugin, key)
        except (pluggy.PluginValidationError, ValueError) as error:
            # Before pluggy 1.7 a failed registration left the hooks that came before the fault in place.
            if self._manager.get_plugin(key) is plugin:
                self._manager.unregister(name=key)
            self.broken.append(Broken(origin, f"does not fit the hooks: {' '.join(str(error).split())}"))
            return
        self.loaded[key] = origin
        callers = self._manager.get_hookcallers(plugin) or []
        unknown = [caller.name for caller in callers if not caller.has_spec() and not _optional(caller, plugin)]
        if unknown:
            self._set_aside(key, "; ".join(_unknown_hook(name) for name in unknown))
        elif not callers:
            self._set_aside(key, "implements no hook; is a @mlx_host.hookimpl missing?")

    def _set_aside(self, key: str, reason: str) -> None:
        self._manager.unregister(name=key)
        self.broken.append(Broken(self.loaded.pop(key), reason))

    def _collect(self, key: str, origin: Origin) -> None:
        """Take in a plugin's backends and parsers: all of them or, if one is at fault, none."""
        try:
            backends = _by_name("backend", self._things(key, "register_backends", _check_backend), _backend_names)
            parsers = _by_name("parser", self._things(key, "register_parsers", _check_parser), _parser_names)
        except PluginError as error:
            self._set_aside(key, str(error))
            return
        for name, backend in backends:
            self.backends.add(name, backend, origin)
        for name, parser in parsers:
            self.parsers.add(name, parser, origin)

    def _things(self, key: str, hook: str, check: Callable[[Any], None]) -> list[Any]:
        try:
            things = [thing for result in self._call(key, hook) for thing in result]
            for thing in things:
                check(thing)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(f"{hook} failed: {_said(error)}") from error
        return things

    def _call(self, key: str, hook: str, **arguments: Any) -> Iterator[Any]:
        """Call one plugin's implementations of a hook."""
        for impl in self._manager.hook.__dict__[hook].get_hookimpls():
            if impl.plugin_name == key:
                if impl.wrapper or impl.hookwrapper:
                    raise PluginError(f"{hook} may not be a wrapper")
                yield impl.function(*(arguments[name] for name in impl.argnames))

    def _failure(self, key: str, hook: str, **arguments: Any) -> Exception | None:
        """Call one plugin's hook for what it does; return what it raised."""
        try:
            for _ in self._call(key, hook, **arguments):
                pass
        except Exception as error:  # noqa: BLE001  one plugin's fault is not the host's
            return error
        return None

    def collect_commands(self, make_group: Callable[[], click.Group]) -> None:
        """Ask each plugin for its commands; a plugin that fails, or takes one of core's names, is set aside."""
        for key, origin in list(self.loaded.items()):
            group = make_group()
            error = self._failure(key, "register_commands", cli=group)
            if error is not None:
                self._set_aside(key, f"register_commands failed: {_said(error)}")
                continue
            origins = self.commands.origins
            taken = [name for name in group.commands if name in origins and origins[name].distribution == OWN]
            if taken:
                self._set_aside(key, f"brings a command {taken[0]!r}, which is mlx-host's own")
                continue
            for name, command in group.commands.items():
                self.commands.add(name, command, origin)

    def apis(self) -> list[tuple[Api[Any], Origin]]:
        """Return every registered API with the plugin that registered it, core's first."""
        return [
            (api, origin)
            for key, origin in self.loaded.items()
            for api in self._things(key, "register_apis", lambda api: None)
        ]

    def request_finished(self, record: RequestRecord) -> None:
        """Tell each plugin what became of a request; one that fails keeps no other from it."""
        for key, origin in self.loaded.items():
            error = self._failure(key, "request_finished", record=record)
            if error is not None:
                log.error("plugin %r of %s: request_finished failed", origin.name, origin, exc_info=error)

    def backend(self, name: str) -> Backend[Any]:
        """Find a backend by name; UsageError says what there is and what to install."""
        self.backends.refuse_conflict(name)
        if name in self.backends.found:
            return self.backends.found[name]
        there_is = ", ".join(sorted(self.backends.found)) or "none"
        raise UsageError(f"No backend {name!r} is installed (there is: {there_is}). {self._remedy('backend', name)}")

    def parser(self, name: str) -> type[Parser]:
        """Find a parser by name or alias; UsageError says what there is."""
        key = parser_key(name)
        self.parsers.refuse_conflict(key)
        if key in self.parsers.found:
            return self.parsers.found[key]
        there_is = ", ".join(sorted({p.name for p in self.parsers.found.values()})) or "none"
        raise UsageError(f"No parser {name!r} is installed (there is: {there_is}). {self._remedy('parser', key)}")

    def _remedy(self, kind: str, name: str) -> str:
        for broken in self.broken:
            package = parser_key(broken.origin.distribution).removeprefix("mlx_host_").removeprefix("parser_")
            if parser_key(name) in (parser_key(broken.origin.name), package):
                return f"Set aside: {broken}."
        installed = self.backends.found if kind == "backend" else self.parsers.found
        if kind == "backend" and name in KNOWN_BACKENDS:
            return f"Install it: pip install {KNOWN_BACKENDS[name]}"
        close = difflib.get_close_matches(name, [*installed, *(KNOWN_BACKENDS if kind == "backend" else ())], n=1)
        if close:
            return f"Did you mean {close[0]!r}?"
        if self.broken:
            return f"It may be in a plugin that was set aside; `mlx-host plugins` lists {len(self.broken)} of them."
        if kind == "parser":
            return PARSER_PACKAGES
        return "Install the package that brings it; `mlx-host plugins` lists what is installed."

    def source(self, ref: str) -> Source:
        """Find out where a model comes from; UsageError if nobody knows it, PluginError if a plugin fails."""
        try:
            source = self.hook.resolve_source(ref=ref)
        except MlxHostError:
            raise
        except Exception as error:
            raise PluginError(f"{self._culprit(error)}resolve_source of {ref!r} failed: {_said(error)}.") from error
        if source is None:
            raise UsageError(
                f"--model {ref!r}: there is no such folder or file, and no plugin knows it. Give a local folder, "
                "a Hugging Face id such as 'mlx-community/Qwen3-4B-4bit', or a name that a plugin resolves."
            )
        if not isinstance(source, Source):
            raise PluginError(f"A plugin's resolve_source of {ref!r} returned {source!r}, which is no Source.")
        return source

    def _culprit(self, error: BaseException) -> str:
        """Name the plugin whose hook raised, as the beginning of a sentence."""
        ran = set()
        trace = error.__traceback__
        while trace is not None:
            ran.add(trace.tb_frame.f_code)
            trace = trace.tb_next
        for impl in self.hook.resolve_source.get_hookimpls():
            if impl.function.__code__ in ran:
                return f"{self.loaded[impl.plugin_name]}: "
        return ""


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _optional(caller: pluggy.HookCaller, plugin: object) -> bool:
    return all(impl.optionalhook for impl in caller.get_hookimpls() if impl.plugin is plugin)


def _unknown_hook(name: str) -> str:
    known = [n for n in vars(hookspecs) if hasattr(getattr(hookspecs, n), f"{GROUP}_spec")]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"the hooks are {', '.join(known)}"
    return f"there is no hook {name!r}; {hint}"


def _backend_names(backend: Backend[Any]) -> Iterable[str]:
    return (backend.name,)


def _parser_names(parser: type[Parser]) -> Iterable[str]:
    return dict.fromkeys(parser_key(name) for name in (parser.name, *parser.aliases))


def _by_name(kind: str, things: Iterable[T], names: Callable[[T], Iterable[str]]) -> list[tuple[str, T]]:
    named = [(name, thing) for thing in things for name in names(thing)]
    for name, count in Counter(name for name, _ in named).items():
        if count > 1:
            raise PluginError(f"brings {kind} {name!r} twice")
    return named


def _check_backend(thing: Any) -> None:
    if not isinstance(thing, Backend):
        raise PluginError(f"register_backends returned {thing!r}, which is no Backend")
    if not (isinstance(thing.options, type) and issubclass(thing.options, Options)):
        raise PluginError(f"options of backend {thing.name!r} must be a subclass of Options, not {thing.options!r}")
    fault = option_fault(thing.options)
    if fault is not None:
        raise PluginError(f"backend {thing.name!r}: {fault}")


def _check_parser(thing: Any) -> None:
    if not (isinstance(thing, type) and issubclass(thing, Parser)):
        raise PluginError(f"register_parsers returned {thing!r}, which is no subclass of Parser")
    # A string would be taken for its letters.
    if isinstance(thing.aliases, str):
        raise PluginError(f"aliases of parser {thing.name!r} must be a tuple of names, not {thing.aliases!r}")
