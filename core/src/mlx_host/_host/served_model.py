"""One served model: its engine is started, watched, and started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

from mlx_host._engine import Answer, Engine
from mlx_host._engine.ipc import Loading
from mlx_host._engine.worker import Worker
from mlx_host._host.admission import Admission
from mlx_host._host.catalog import DEFAULT_LIMITS, ModelLimits
from mlx_host._host.constraints import constrained, holds_calls
from mlx_host._host.parser_selection import NO_PARSERS, ParserSelection, settle
from mlx_host._host.unparsed_markup import Telltales
from mlx_host.api import ModelState, ModelStatus
from mlx_host.backend import Capabilities
from mlx_host.errors import EngineDied, LoadError, MlxHostError, ModelUnavailable, RequestError
from mlx_host.parsing import Parser
from mlx_host.requests import Request

log = logging.getLogger(__name__)

# So many deaths within so many seconds mean that starting again is no use.
MOST_DEATHS = 3
DEATHS_WITHIN = 60.0
FIRST_BACK_OFF = 0.5
# A request that has been in the hands of so many processes as they ended is the likely cause.
MOST_REPLAYS = 1


class ServedModel:
    """A model under its name, whether it is up at the moment or not.

    `start` makes a worker; it is called again after each death of the last one. `families` are those that
    `--parser auto` chooses from once the model's chat template is known.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Worker],
        limits: ModelLimits = DEFAULT_LIMITS,
        parsers: ParserSelection = NO_PARSERS,
        families: Iterable[type[Parser]] = (),
        on_loading: Callable[[Loading], None] = lambda progress: None,
    ) -> None:
        self.name = name
        self.limits = limits
        self.parsers = parsers
        self.admission = Admission(limits.queue_size)
        self.state = ModelState.LOADING
        self.failure: MlxHostError | None = None
        self.restarts = 0
        self.info: Capabilities | None = None
        self.rounds: Counter[int] = Counter()
        self.created = int(time.time())
        self.telltales = Telltales((), None)
        self._families = list(families)
        self._start = start
        self._on_loading = on_loading
        self._engine: Engine | None = None
        self._to_replay: list[Answer] = []
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The process that the model runs in, if there is one at the moment."""
        return self._engine.worker.pid if self._engine is not None and not self._engine.ended.done() else None

    def status(self) -> ModelStatus:
        """Return a snapshot."""
        configured = self.limits.max_concurrency
        announced = None if self.info is None else self.info.concurrency
        known = [limit for limit in (configured, announced) if limit is not None]
        return ModelStatus(
            name=self.name,
            state=self.state,
            capabilities=self.info,
            concurrency=min(known, default=0),
            running=self.admission.running,
            waiting=self.admission.waiting,
            queue_size=self.limits.queue_size,
            restarts=self.restarts,
            error=None if self.failure is None else str(self.failure),
            pid=self.pid,
            created=self.created,
            enforces_tool_schemas=self.holds_calls,
            batch_sizes=self.rounds,
        )

    def start(self) -> None:
        """Begin to load, and keep the model up from then on."""
        self._task = asyncio.create_task(self._supervise(), name=f"model {self.name}")

    async def loaded(self) -> None:
        """Wait until the first loading is over; the LoadError if it failed."""
        while self.state in (ModelState.LOADING, ModelState.RESTARTING):
            self._changed.clear()
            await self._changed.wait()
        if self.failure is not None:
            raise self.failure

    async def stop(self, timeout: float) -> None:
        """Cut off all requests and end the model's process, gently for `timeout` seconds."""
        self._become(ModelState.STOPPED)
        self._stopping.set()
        self._fail_all(self._down())
        if self._engine is not None:
            await self._engine.stop(timeout)
        if self._task is not None:
            await self._task

    def submit(self, answer: Answer) -> None:
        """Give an admitted request to the engine, or keep it for the next one."""
        self.refuse_unless_up()
        assert self.info is not None  # Nobody is admitted before the model is up.
        answer.request = constrained(answer.request, self.name, self.info, self.parsers)
        if self._engine is not None and not self._engine.ended.done():
            self._engine.submit(answer)
        else:
            self._to_replay.append(answer)

    def cancel(self, answer: Answer) -> None:
        """Withdraw a request."""
        if answer in self._to_replay:
            self._to_replay.remove(answer)
        elif self._engine is not None:
            self._engine.cancel(answer)

    def end(self, id: str, error: RequestError) -> bool:
        """End the request with this id by an error; whether it was being answered."""
        for answer in (*self._to_replay, *(self._engine.open if self._engine is not None else ())):
            if answer.request.id == id:
                self.cancel(answer)
                answer.push(error)
                return True
        return False

    def refuse_unless_up(self) -> None:
        """Raise ModelUnavailable if waiting for this model is of no use."""
        if self.state in (ModelState.FAILED, ModelState.STOPPED):
            raise ModelUnavailable(self._down())

    def serves(self, request: Request) -> bool:
        """Whether the model takes this type of request; unknown, so true, while it loads for the first time."""
        return self.info is None or isinstance(request, self.info.supported_requests)

    @property
    def holds_calls(self) -> bool | None:
        """Whether calls can be held to the schemas of their tools; None while it loads for the first time."""
        return None if self.info is None else holds_calls(self.info, self.parsers)

    def _become(self, state: ModelState) -> None:
        self.state = state
        self._changed.set()

    async def _supervise(self) -> None:
        try:
            await self._keep_up()
        except Exception as error:
            # Such as a plugin's parser that cannot be asked. Without this the model would be waited for in vain.
            log.exception("model %s: it cannot be kept up", self.name)
            if self._engine is not None:
                self._engine.worker.kill()
            self._give_up(LoadError(f"it cannot be kept up: {type(error).__name__}: {error}"))

    async def _keep_up(self) -> None:
        while not self._stopping.is_set():
            try:
                engine = self._engine = Engine(self._start(), self._on_loading, self.rounds)
            except OSError as error:
                self._give_up(LoadError(f"its process cannot be started: {error}"))
                return
            try:
                self.info = await engine.ready()
            except MlxHostError as error:
                engine.worker.kill()
                await asyncio.shield(engine.ended)
                if self.info is None or not isinstance(error, LoadError):
                    self._give_up(error)
                    return
                how = str(error)
            else:
                self._serve(engine, self.info)
                how = await self._watch(engine)
                for answer in engine.open:
                    answer.deaths += 1
            self.admission.slots = 0
            if self._stopping.is_set():
                return
            self._bury(engine, how)
            if self._hopeless():
                self._give_up(LoadError(f"its process died {MOST_DEATHS} times in a minute, at last: {how}"))
                return
            self._become(ModelState.RESTARTING)
            self.restarts += 1
            back_off = FIRST_BACK_OFF * 2 ** (self._recent_deaths() - 1)
            log.warning("model %s: process ended (%s); starting again in %.1f s", self.name, how, back_off)
            await self._stopped_within(back_off)

    async def _watch(self, engine: Engine) -> str:
        """Wait until the process has ended, and end it when it has stalled; return how it ended."""
        patience = wait = self.limits.stall_timeout or None
        while not (await asyncio.wait({engine.ended}, timeout=wait))[0]:
            assert patience is not None
            now = asyncio.get_running_loop().time()
            wait = engine.last_sign + patience - now if engine.busy else patience
            if wait <= 0:
                stacks = await engine.stacks()
                log.error(
                    "model %s: no sign of it for %g s while %d requests are open; it is ended. Its stacks:\n%s",
                    self.name,
                    patience,
                    len(engine.open),
                    stacks or "(it did not even answer that)",
                )
                engine.worker.kill()
                await asyncio.shield(engine.ended)
                return f"stalled for {patience:g} s"
        return engine.ended.result()

    async def _stopped_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _serve(self, engine: Engine, info: Capabilities) -> None:
        if self._stopping.is_set():
            return
        self.parsers = settle(self.parsers, info.chat_template, self._families, self.name)
        self.telltales = Telltales(self._families, info.chat_template)
        self._become(ModelState.READY)
        replayed, self._to_replay = self._to_replay, []
        for answer in replayed:
            engine.submit(answer)
        limit = self.limits.max_concurrency
        self.admission.slots = info.concurrency if limit is None else min(limit, info.concurrency)

    def _bury(self, engine: Engine, how: str) -> None:
        for answer in engine.open:
            if answer.begun or answer.deaths > MOST_REPLAYS:
                answer.push(EngineDied(f"The process of model {self.name!r} ended while it answered ({how})."))
            else:
                self._to_replay.append(answer)

    def _recent_deaths(self) -> int:
        now = asyncio.get_running_loop().time()
        return sum(now - death < DEATHS_WITHIN for death in self._deaths)

    def _hopeless(self) -> bool:
        self._deaths.append(asyncio.get_running_loop().time())
        return self._recent_deaths() == MOST_DEATHS

    def _give_up(self, error: MlxHostError) -> None:
        if self._stopping.is_set():
            return
        self.failure = error
        self._become(ModelState.FAILED)
        log.error("model %s: failed: %s", self.name, error)
        self._fail_all(self._down())

    def _down(self) -> str:
        """Say why this model takes no requests."""
        if self.failure is not None:
            return f"Model {self.name!r} failed: {self.failure}"
        return f"Model {self.name!r} is being shut down."

    def _fail_all(self, reason: str) -> None:
        answers = [*self._to_replay, *(self._engine.open if self._engine is not None else ())]
        self._to_replay.clear()
        self.admission.refuse_all(reason)
        for answer in answers:
            answer.push(ModelUnavailable(reason))
