"""Image jobs: requests that run in the background and are polled by their id."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from mlx_host._apis.images.response import ImageResults
from mlx_host.api import Caller, Service
from mlx_host.api.errors import INTERNAL_ERROR
from mlx_host.api.http import InternalError, openai_body
from mlx_host.errors import InvalidRequestError, QueueFullError, RequestError

log = logging.getLogger(__name__)

JobOutcome = Literal["completed", "failed", "cancelled"]
JobStatus = Literal["queued", "in_progress"] | JobOutcome


class JobNotFoundError(InvalidRequestError):
    """The caller has no job with this id."""

    status = 404
    code = "job_not_found"

    def __init__(self, id: str) -> None:
        super().__init__(f"Image job {id!r} was not found; it is unknown, deleted or expired.")


class ImageJob:
    """One job: its results so far, and how it ended. Times are in seconds since the epoch.

    queued -> in_progress (the model has started) -> completed | failed | cancelled; a queued job can also fail or be
    cancelled. `image_names` are the names of the images in the store, once the job is completed.
    """

    def __init__(self, caller: Caller, results: ImageResults, *, by_url: bool) -> None:
        self.id = f"imgjob_{uuid.uuid4().hex}"
        self.caller = caller
        self.results = results
        self.by_url = by_url
        self.created_at = int(time.time())
        self.expires_at: int | None = None
        self.image_names: list[str] = []
        self.outcome: JobOutcome | None = None
        self.error: RequestError | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, service: Service, work: Coroutine[Any, Any, None], on_end: Callable[[], None]) -> None:
        """Run `work` in the background, and call `on_end` when it has ended."""
        self._task = service.spawn(self._run(work), name=self.id)
        # A task that is cancelled before its first step never awaits `work`.
        self._task.add_done_callback(lambda task: work.close())
        self._task.add_done_callback(lambda task: self._ended(task, on_end))

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except RequestError as error:
            self.error = _without_frames(error)
        except Exception:
            log.exception("%s failed", self.id)
            self.error = InternalError(INTERNAL_ERROR)

    def _ended(self, task: asyncio.Task[None], on_end: Callable[[], None]) -> None:
        # A finished task that was cancelled keeps its frames, and in them the request, so let go of it.
        self._task = None
        if task.cancelled():
            self.outcome = "cancelled"
        else:
            self.outcome = "completed" if self.error is None else "failed"
        on_end()

    async def cancel(self) -> None:
        """Cancel the job and wait until it has ended; does nothing if it has."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    @property
    def ended(self) -> bool:
        """Whether the job is completed, failed or cancelled."""
        return self.outcome is not None

    @property
    def status(self) -> JobStatus:
        """The status as clients see it."""
        return self.outcome or ("queued" if self.results.started is None else "in_progress")

    def body(self, result: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the job as clients see it; `step` is that of the image in progress."""
        results = self.results
        return {
            "id": self.id,
            "object": "image.job",
            "status": self.status,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "model": results.model.name,
            "seed": results.seed,
            "n": results.n,
            "completed": len(results.completed),
            "step": results.step,
            "steps": results.started.steps if results.started is not None else None,
            "result": result,
            "error": openai_body(self.error)["error"] if self.error is not None else None,
        }


def _without_frames(error: RequestError) -> RequestError:
    """Drop an error's traceback and causes: their frames hold the request, with its uploads."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class ImageJobs:
    """All jobs by id, at most `max_jobs`; an ended job is kept for `ttl` seconds, or until a new job needs room."""

    def __init__(self, service: Service, max_jobs: int, ttl: float, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._max_jobs = max_jobs
        self._ttl = ttl
        self._clock = clock
        self._jobs: dict[str, ImageJob] = {}

    async def start(self, job: ImageJob, work: Coroutine[Any, Any, None]) -> None:
        """Start a job; raises QueueFullError if too many jobs run, or the error with which the model rejects it."""
        if sum(not each.ended for each in self._jobs.values()) >= self._max_jobs:
            work.close()
            raise QueueFullError(
                f"{self._max_jobs} image jobs are queued or running, which is the limit (--images-jobs); "
                "try again later.",
                retry_after=10,
            )
        # Before anything is awaited, so that jobs that start at the same time count each other.
        self._jobs[job.id] = job
        job.start(self._service, work, lambda: self._ended(job))
        # The job runs as far as the queue of its model, which accepts or rejects it.
        await asyncio.sleep(0)
        if job.error is not None:
            self.remove(job)
            raise job.error
        self._make_room()

    def _make_room(self) -> None:
        self._expire()
        ended = [job for job in self._jobs.values() if job.ended]
        for job in ended[: max(0, len(self._jobs) - self._max_jobs)]:
            self.remove(job)

    def _ended(self, job: ImageJob) -> None:
        job.expires_at = int(self._clock() + self._ttl)

    def _expire(self) -> None:
        for job in list(self._jobs.values()):
            if job.expires_at is not None and job.expires_at <= self._clock():
                self.remove(job)

    def get(self, id: str, caller: Caller) -> ImageJob:
        """Return a job of this caller; JobNotFoundError if there is none."""
        self._expire()
        job = self._jobs.get(id)
        if job is None or job.caller != caller:
            raise JobNotFoundError(id)
        return job

    def remove(self, job: ImageJob) -> None:
        """Forget a job; does nothing if it is already gone."""
        self._jobs.pop(job.id, None)
