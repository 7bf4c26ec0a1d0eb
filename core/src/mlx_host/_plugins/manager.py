"""Loads the plugins and collects what they register; plugins that fail are skipped."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from mlx_host import hookspecs
from mlx_host._plugins.checks import (
    api_name,
    backend_names,
    by_name,
    check_api,
    check_backend,
    check_parser,
    clash,
    parser_key,
    parser_names,
)
from mlx_host._plugins.contract import check_contract
from mlx_host._plugins.guards import guarded
from mlx_host._plugins.registry import FailedPlugin, PluginInfo, Registry
from mlx_host._settings import api_names, closest, option_names
from mlx_host.api import Api, RequestRecord
from mlx_host.backend import Backend, ModelSource
from mlx_host.errors import MlxHostError, PluginError, UsageError
from mlx_host.hookspecs import GROUP
from mlx_host.parsing import Parser

if TYPE_CHECKING:
    import click

# The backends that this project provides; each is an extra of mlx-host.
KNOWN_BACKENDS = ("lm", "vlm", "flux", "embeddings", "whisper")
# A parser's alias or a misspelled name does not determine the package.
PARSER_PACKAGES = "Each parser family is a package named after it, such as mlx-host-parser-qwen3."
OWN = "mlx-host"

T = TypeVar("T")


class Plugins:
    """The plugins of this process and what they register.

    `builtins` are core's own plugins by name; they use the same hooks and are loaded first, followed by the entry
    points of the group `mlx_host`. `loaded` is keyed by DISTRIBUTION:ENTRY-POINT. A plugin that fails is skipped:
    everything that it registered is removed, and `failed` has the reason.
    """

    def __init__(self, builtins: Mapping[str, object], installed: Iterable[EntryPoint] | None = None) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._objects: list[object] = []
        self._apis: Registry[Api[Any]] | None = None
        self.loaded: dict[str, PluginInfo] = {}
        self.failed: list[FailedPlugin] = []
        self.backends: Registry[Backend[Any]] = Registry("backend")
        self.parsers: Registry[type[Parser]] = Registry("parser")
        self.commands: Registry[click.Command] = Registry("command")
        from mlx_host import __version__

        self._version = __version__
        for name, plugin in builtins.items():
            self._register(plugin, PluginInfo(name, OWN, __version__))
        for point in entry_points(group=GROUP) if installed is None else installed:
            self._load(point)
        for key in list(self.loaded):
            self._collect(key)

    @property
    def hook(self) -> Any:
        """Calls a hook of all plugins, such as `hook.resolve_source(ref=...)`."""
        return self._manager.hook

    @property
    def apis(self) -> Registry[Api[Any]]:
        """The registered APIs, core's first; the first access collects them."""
        if self._apis is None:
            self._apis = Registry("API")
            for key in list(self.loaded):
                # The plugin may have been skipped because of an earlier clash.
                if key in self.loaded:
                    self._collect_apis(key, self._apis)
        return self._apis

    def hooks_of(self, key: str) -> list[str]:
        """Return the hooks that a loaded plugin implements."""
        return sorted(caller.name for caller in self._manager.get_hookcallers(self._manager.get_plugin(key)) or [])

    def problems(self) -> list[str]:
        """Describe every plugin that was skipped and every name that several plugins register."""
        apis = self.apis
        kinds: tuple[Registry[Any], ...] = (self.backends, self.parsers, apis, self.commands)
        conflicts = [registry.conflict(name) for registry in kinds for name in registry.conflicts]
        return [*(f"skipped: {failed}" for failed in self.failed), *(f"conflict: {text}" for text in conflicts)]

    def skip(self, info: PluginInfo, reason: str) -> None:
        """Unregister a plugin's hooks and everything that it registered."""
        self._skip(next(key for key, loaded in self.loaded.items() if loaded == info), reason)

    def _skip(self, key: str, reason: str) -> None:
        self._manager.unregister(name=key)
        info = self.loaded.pop(key)
        registries: tuple[Registry[Any], ...] = (self.backends, self.parsers, self.commands)
        for registry in (*registries, *([self._apis] if self._apis is not None else [])):
            registry.remove(info)
        self.failed.append(FailedPlugin(info, reason))

    def _load(self, point: EntryPoint) -> None:
        dist = point.dist
        info = PluginInfo(point.name, dist.name if dist else "?", dist.version if dist else "?")
        try:
            # Before the import, which would fail for a reason that does not help the user.
            if dist is not None:
                check_contract(dist, self._version)
            plugin = point.load()
        except PluginError as error:
            self.failed.append(FailedPlugin(info, str(error)))
            return
        except (Exception, SystemExit) as error:  # noqa: BLE001  a broken plugin must not stop the host
            self.failed.append(FailedPlugin(info, f"import failed: {_format(error)}"))
            return
        self._register(plugin, info)

    def _register(self, plugin: object, info: PluginInfo) -> None:
        key = f"{info.distribution}:{info.name}"
        if any(plugin is registered for registered in self._objects):
            self.failed.append(FailedPlugin(info, "its object is already registered by another entry point"))
            return
        self._objects.append(plugin)
        try:
            proxy = guarded(self._manager, plugin, info)
        except PluginError as error:
            self.failed.append(FailedPlugin(info, str(error)))
            return
        try:
            self._manager.register(proxy, key)
        except (pluggy.PluginValidationError, ValueError) as error:
            # Before pluggy 1.7, a failed registration left some hooks registered.
            if self._manager.get_plugin(key) is proxy:
                self._manager.unregister(name=key)
            self.failed.append(FailedPlugin(info, f"does not match the hook spec: {' '.join(str(error).split())}"))
            return
        self.loaded[key] = info
        callers = self._manager.get_hookcallers(proxy) or []
        unknown = [caller.name for caller in callers if not caller.has_spec() and not _optional(caller, proxy)]
        if unknown:
            self._skip(key, "; ".join(_unknown_hook(name) for name in unknown))
        elif not callers:
            self._skip(key, "implements no hook; is the decorator @mlx_host.hookimpl missing?")

    def _collect(self, key: str) -> None:
        """Collect a plugin's backends and parsers."""
        try:
            backends = by_name("backend", self._results(key, "register_backends", check_backend), backend_names)
            parsers = by_name("parser", self._results(key, "register_parsers", check_parser), parser_names)
        except PluginError as error:
            self._skip(key, str(error))
            return
        for name, backend in backends:
            self.backends.add(name, backend, self.loaded[key])
        for name, parser in parsers:
            self.parsers.add(name, parser, self.loaded[key])

    def _collect_apis(self, key: str, apis: Registry[Api[Any]]) -> None:
        """Collect a plugin's APIs."""
        info = self.loaded[key]
        try:
            found = by_name("API", self._results(key, "register_apis", check_api), api_name)
            own = apis.owned_by(OWN, (name for name, _ in found))
            if own and info.distribution != OWN:
                raise PluginError(f"registers an API {own[0]!r}, which is mlx-host's own")
        except PluginError as error:
            self._skip(key, str(error))
            return
        for name, api in found:
            for other, reason in self._clashes(api, info, apis):
                # Core takes precedence over plugins, and otherwise the plugin that was loaded first.
                loser = other if info.distribution == OWN and other.distribution != OWN else info
                self.skip(loser, reason)
                if loser == info:
                    return
            apis.add(name, api, info)

    def _clashes(self, api: Api[Any], info: PluginInfo, apis: Registry[Api[Any]]) -> list[tuple[PluginInfo, str]]:
        """Find the settings that share a name with one of an API's; return each one's plugin, and a description."""
        owned = [
            (self.backends.owners[name], f"backend {name!r}", option_names(backend.options))
            for name, backend in self.backends.found.items()
        ]
        owned += [
            (apis.owners[name], f"API {name!r}", api_names(name, other.settings)) for name, other in apis.found.items()
        ]
        what, names = f"API {api.name!r} ({info})", api_names(api.name, api.settings)
        clashes = {
            owner: reason
            for owner, other, others in owned
            # Two APIs with the same name are a conflict, which the registry reports.
            if other != f"API {api.name!r}" and (reason := clash(what, names, f"{other} ({owner})", others)) is not None
        }
        return list(clashes.items())

    def _results(self, key: str, hook: str, check: Callable[[Any], None]) -> list[Any]:
        """Call one plugin's implementation of a registration hook, and check what it returns."""
        try:
            results = self._hook_of(key, hook)()
            # pluggy drops results that are None.
            if not results and hasattr(self._manager.get_plugin(key), hook):
                raise PluginError(f"{hook} returned None; is a `return` missing?")
            things = [thing for result in results for thing in result]
            for thing in things:
                check(thing)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(f"{hook} failed: {_format(error)}") from error
        return things

    def _hook_of(self, key: str, hook: str) -> pluggy.HookCaller:
        """Return the caller of one plugin's implementation of a hook."""
        others = [plugin for name, plugin in self._manager.list_name_plugin() if name != key]
        return self._manager.subset_hook_caller(hook, others)

    def collect_commands(self, make_group: Callable[[], click.Group]) -> None:
        """Collect the commands of all plugins; `make_group` creates the group that a plugin adds its commands to."""
        self.commands = Registry("command")
        for key, info in list(self.loaded.items()):
            group = make_group()
            try:
                self._hook_of(key, "register_commands")(cli=group)
            except Exception as error:  # noqa: BLE001  one plugin's bug must not affect the others
                self._skip(key, f"register_commands failed: {_format(error)}")
                continue
            own = self.commands.owned_by(OWN, group.commands)
            if own and info.distribution != OWN:
                self._skip(key, f"registers a command {own[0]!r}, which is mlx-host's own")
                continue
            for name, command in group.commands.items():
                self.commands.add(name, command, info)

    def request_finished(self, record: RequestRecord) -> None:
        """Report a finished request to every plugin."""
        self.hook.request_finished(record=record)

    def backend(self, name: str) -> Backend[Any]:
        """Find a backend by name; UsageError lists the installed ones."""
        self.backends.check(name)
        found = self.backends.found
        if name in found:
            return found[name]
        installed = ", ".join(sorted(found)) or "none"
        raise UsageError(f"Unknown backend {name!r}. Installed backends: {installed}. {self._remedy('backend', name)}")

    def parser(self, name: str) -> type[Parser]:
        """Find a parser by name or alias; UsageError lists the installed ones."""
        key = parser_key(name)
        self.parsers.check(key)
        found = self.parsers.found
        if key in found:
            return found[key]
        installed = ", ".join(sorted({parser.name for parser in found.values()})) or "none"
        raise UsageError(f"Unknown parser {name!r}. Installed parsers: {installed}. {self._remedy('parser', key)}")

    def _remedy(self, kind: str, name: str) -> str:
        for failed in self.failed:
            package = parser_key(failed.info.distribution).removeprefix("mlx_host_").removeprefix("parser_")
            if parser_key(name) in (parser_key(failed.info.name), package):
                return f"Skipped: {failed}."
        installed = self.backends.found if kind == "backend" else self.parsers.found
        if kind == "backend" and name in KNOWN_BACKENDS:
            return _install(name, installed)
        known = {*installed, *(KNOWN_BACKENDS if kind == "backend" else ())}
        canonical = known if kind == "backend" else {parser.name for parser in self.parsers.found.values()}
        if close := closest(name, known, preferred=canonical):
            return f"Did you mean {close!r}?"
        if self.failed:
            return f"{len(self.failed)} plugins were skipped; `mlx-host plugins` lists them with the reasons."
        if kind == "parser":
            return PARSER_PACKAGES
        return "Install the package that provides it; `mlx-host plugins` lists what is installed."

    def source(self, ref: str) -> ModelSource:
        """Resolve the source of a model; UsageError if no plugin resolves it, PluginError if a plugin fails."""
        try:
            source = self.hook.resolve_source(ref=ref)
        except MlxHostError:
            raise
        except Exception as error:
            raise PluginError(f"{self._culprit(error)}resolve_source of {ref!r} failed: {_format(error)}.") from error
        if source is None:
            raise UsageError(
                f"--model {ref!r}: no such folder or file, and no plugin resolves it. Use a local folder, "
                "a Hugging Face id such as 'mlx-community/Qwen3-4B-4bit', or a name that a plugin resolves."
            )
        if not isinstance(source, ModelSource):
            raise PluginError(f"A plugin's resolve_source of {ref!r} returned {source!r}, expected a ModelSource.")
        return source

    def examples(self, backend: Backend[Any]) -> list[str]:
        """Return the examples of a backend that can be resolved: the plugin of a source may not be installed."""
        found = []
        for model in backend.examples:
            with contextlib.suppress(MlxHostError):
                self.source(model)
                found.append(model)
        return found

    def _culprit(self, error: BaseException) -> str:
        """Return "PLUGIN: " for the plugin whose implementation raised the exception; "" if it is unknown."""
        codes = {
            getattr(impl.function, "__code__", None): self.loaded[impl.plugin_name]
            for impl in self.hook.resolve_source.get_hookimpls()
        }
        found = ""
        trace = error.__traceback__
        while trace is not None:
            # The innermost frame decides: an exception that passes through a wrapper also has the wrapper's frames.
            if trace.tb_frame.f_code in codes:
                found = f"{codes[trace.tb_frame.f_code]}: "
            trace = trace.tb_next
        return found


def _install(backend: str, installed: Collection[str]) -> str:
    """Describe how to install one of the project's backends next to the installed ones."""
    command = f'pip install "mlx-host[{backend}]"'
    if sys.platform != "linux":
        return f"Install it with: {command}"
    others = [name for name in KNOWN_BACKENDS if name in installed and "flux" in (name, backend)]
    if others:
        # mflux pins another version of MLX there.
        return f"On Linux, it cannot be installed with {', '.join(others)}; use another environment: {command}"
    if backend == "flux":
        return f"Install it with: {command} (on Linux, it needs an NVIDIA GPU)"
    return f'Install it with: pip install "mlx-host[{backend},cpu]", or with cuda13 or cuda12 for an NVIDIA GPU.'


def _format(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _optional(caller: pluggy.HookCaller, plugin: object) -> bool:
    return all(impl.optionalhook for impl in caller.get_hookimpls() if impl.plugin is plugin)


def _unknown_hook(name: str) -> str:
    known = [n for n in vars(hookspecs) if hasattr(getattr(hookspecs, n), f"{GROUP}_spec")]
    close = closest(name, known)
    hint = f"did you mean {close!r}?" if close else f"available: {', '.join(known)}"
    return f"unknown hook {name!r}; {hint}"
