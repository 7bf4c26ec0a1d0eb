"""Image jobs: requests that run in the background, and whose result is polled by id.

    status        next status
    queued        in_progress when the model starts the request; failed or cancelled before that
    in_progress   completed with all images, failed by an error, or cancelled by the client or at shutdown
    completed     -
    failed        -
    cancelled     -

In the last three the job has ended: it is removed when it expires, when a new job needs its place, when the client
deletes it, or, if completed, when its images have been evicted from the store. A job that is rejected at once by the
model's queue never becomes visible.
"""

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
        super().__init__(f"Image job {id!r} not found: it does not exist, was deleted or has expired.")


class ImageJob:
    """One job and its results so far; see the table above. Times are in seconds since the epoch.

    `outcome` is None until the job has ended. `image_names` are the names of the images in the store, after the job is
    completed.
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
        # Drop the reference: a cancelled task retains its frames, and with them the request and its uploads.
        self._task = None
        if task.cancelled():
            self.outcome = "cancelled"
        else:
            self.outcome = "completed" if self.error is None else "failed"
        on_end()

    async def cancel(self) -> None:
        """Cancel the job and wait until it has ended; do nothing if it has already ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    @property
    def ended(self) -> bool:
        """Whether the job is completed, failed or cancelled."""
        return self.outcome is not None

    @property
    def status(self) -> JobStatus:
        """The status in responses."""
        return self.outcome or ("queued" if self.results.started is None else "in_progress")

    def body(self, result: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the job as a JSON object; `step` is the current step of the current image."""
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
    """Remove an error's traceback and causes, whose frames reference the request and its uploads."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class ImageJobs:
    """The jobs by id, at most `max_jobs`; an ended job expires after `ttl` seconds, or if a new job needs its place."""

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
                f"Too many image jobs: {self._max_jobs} are queued or running, the limit of --images-jobs. "
                "Try again later.",
                retry_after=10,
            )
        # Added before anything is awaited, so that the limit includes jobs that are being started concurrently.
        self._jobs[job.id] = job
        job.start(self._service, work, lambda: self._ended(job))
        # Lets the job run until the model's queue has accepted or rejected it.
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
        """Return the job with this id if it belongs to the caller; raises JobNotFoundError."""
        self._expire()
        job = self._jobs.get(id)
        if job is None or job.caller != caller:
            raise JobNotFoundError(id)
        return job

    def remove(self, job: ImageJob) -> None:
        """Remove a job; do nothing if it has already been removed."""
        self._jobs.pop(job.id, None)
