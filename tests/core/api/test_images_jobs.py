"""Image jobs: status, outcome, number and lifetime."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import pytest
from fastapi import Request
from mlx_host._apis.images.jobs import ImageJob, ImageJobs, JobNotFoundError
from mlx_host._apis.images.response import ImageResults
from mlx_host._apis.images.schema import ImageBody
from mlx_host._apis.images.service import ImageService
from mlx_host._apis.images.settings import ImageSettings
from mlx_host._apis.images.store import ImageNotFoundError
from mlx_host.api import LOCAL, Caller, Deadline, Service
from mlx_host.errors import EngineError, QueueFullError, RequestError
from mlx_host.events import Event, Finished, ImageCompleted, ImagesStarted, Progress
from mlx_host.requests import ImageEditRequest, ImageGenerationRequest, ImageRequest

from tests.support.fake_service import MODEL, ListedService, connected

STARTED = ImagesStarted(prompt_tokens=1, width=16, height=16, steps=4)


SCOPE = {"type": "http", "headers": [], "server": ("127.0.0.1", 1), "path": "/", "scheme": "http"}
HTTP = Request(SCOPE, connected)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def new_job(caller: Caller = LOCAL) -> ImageJob:
    request = ImageGenerationRequest(id="r", model="m", prompt="p", seed=1)
    return ImageJob(caller, ImageResults(MODEL, request), by_url=False)


async def nothing() -> None:
    pass


async def forever() -> None:
    await asyncio.Event().wait()


async def rejected() -> None:
    raise QueueFullError("full")


def with_jobs(
    work: Callable[[ImageJobs], Coroutine[Any, Any, None]], max_jobs: int = 2, clock: Clock | None = None
) -> None:
    """Run a test with new jobs."""

    async def run() -> None:
        await work(ImageJobs(cast(Service, ListedService([])), max_jobs, 60, clock or Clock()))

    asyncio.run(run())


def has(jobs: ImageJobs, job: ImageJob) -> bool:
    try:
        return jobs.get(job.id, job.caller) is job
    except JobNotFoundError:
        return False


async def until_ended(job: ImageJob) -> None:
    while not job.ended:
        await asyncio.sleep(0)


def test_a_job_reports_its_progress() -> None:
    async def work(jobs: ImageJobs) -> None:
        proceed = asyncio.Event()
        job = new_job()

        async def generate() -> None:
            await proceed.wait()
            job.results.add(STARTED)
            job.results.add(Progress("image", 3, 4))
            proceed.clear()
            await proceed.wait()
            job.results.add(ImageCompleted(0, 1, 1, b"image"))

        await jobs.start(job, generate())
        assert (job.status, job.body()["steps"]) == ("queued", None)
        proceed.set()
        await asyncio.sleep(0)
        body = job.body()
        assert (body["status"], body["step"], body["steps"]) == ("in_progress", 3, 4)
        assert (body["completed"], body["expires_at"]) == (0, None)
        proceed.set()
        await until_ended(job)
        body = jobs.get(job.id, LOCAL).body({"data": []})
        assert (body["status"], body["completed"], body["result"]) == ("completed", 1, {"data": []})
        assert body["expires_at"] == 1060

    with_jobs(work)


def test_a_job_that_is_rejected_at_once_is_not_created() -> None:
    async def work(jobs: ImageJobs) -> None:
        job = new_job()
        with pytest.raises(QueueFullError, match="full"):
            await jobs.start(job, rejected())
        assert not has(jobs, job)

    with_jobs(work)


def test_a_rejected_job_evicts_no_finished_one() -> None:
    async def work(jobs: ImageJobs) -> None:
        finished = new_job()
        await jobs.start(finished, nothing())
        await until_ended(finished)
        with pytest.raises(QueueFullError, match="full"):
            await jobs.start(new_job(), rejected())
        assert has(jobs, finished)

    with_jobs(work, max_jobs=1)


def test_a_failed_job_has_the_error() -> None:
    async def work(jobs: ImageJobs) -> None:
        job = new_job()

        async def fail() -> None:
            await asyncio.sleep(0)
            raise EngineError("broken")

        await jobs.start(job, fail())
        await until_ended(job)
        body = job.body()
        assert body["status"] == "failed"
        assert body["error"]["message"] == "broken"
        assert body["error"]["code"] == "engine_failed"

    with_jobs(work)


def test_an_unexpected_exception_is_in_the_log_and_not_in_the_job(caplog: pytest.LogCaptureFixture) -> None:
    async def work(jobs: ImageJobs) -> None:
        job = new_job()

        async def fail() -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError("secret")

        await jobs.start(job, fail())
        await until_ended(job)
        body = job.body()
        assert (body["status"], body["error"]["code"]) == ("failed", "internal_error")
        assert "secret" not in str(body)

    with_jobs(work)
    assert "ZeroDivisionError: secret" in caplog.text


def test_a_job_is_cancelled() -> None:
    async def work(jobs: ImageJobs) -> None:
        job, closed = new_job(), []

        async def until_closed() -> None:
            try:
                await forever()
            finally:
                closed.append(True)

        await jobs.start(job, until_closed())
        await job.cancel()
        assert (closed, job.status, job.ended) == ([True], "cancelled", True)
        await job.cancel()
        assert has(jobs, job)

    with_jobs(work)


def test_a_job_whose_task_never_ran_is_cancelled() -> None:
    async def work(jobs: ImageJobs) -> None:
        job = new_job()
        starting = asyncio.create_task(jobs.start(job, forever()))
        await asyncio.sleep(0)
        # As on shutdown: before the task has run for the first time.
        for task in asyncio.all_tasks():
            if task.get_name() == job.id:
                task.cancel()
        await starting
        await until_ended(job)
        assert job.status == "cancelled"

    with_jobs(work)


def test_finished_jobs_are_evicted_and_running_ones_are_not() -> None:
    async def work(jobs: ImageJobs) -> None:
        finished, running = new_job(), new_job()
        await jobs.start(finished, nothing())
        await jobs.start(running, forever())
        third = new_job()
        await jobs.start(third, forever())
        assert [has(jobs, job) for job in (finished, running, third)] == [False, True, True]
        with pytest.raises(QueueFullError, match=r"2.*--images-jobs"):
            await jobs.start(new_job(), nothing())
        await running.cancel()
        await jobs.start(new_job(), nothing())
        assert not has(jobs, running)
        await third.cancel()

    with_jobs(work)


def test_the_limit_holds_for_jobs_that_start_together() -> None:
    async def work(jobs: ImageJobs) -> None:
        new_jobs = [new_job() for _ in range(10)]
        outcomes = await asyncio.gather(*(jobs.start(job, forever()) for job in new_jobs), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None)] + [QueueFullError] * 9
        assert [has(jobs, job) for job in new_jobs] == [True] + [False] * 9
        await new_jobs[0].cancel()

    with_jobs(work, max_jobs=1)


def test_finished_jobs_expire() -> None:
    clock = Clock()

    async def work(jobs: ImageJobs) -> None:
        finished, running = new_job(), new_job()
        await jobs.start(finished, nothing())
        await jobs.start(running, forever())
        await asyncio.sleep(0)
        clock.now += 59
        assert has(jobs, finished)
        clock.now += 1
        assert [has(jobs, each) for each in (finished, running)] == [False, True]
        await running.cancel()

    with_jobs(work, clock=clock)


def test_a_job_belongs_to_its_caller() -> None:
    async def work(jobs: ImageJobs) -> None:
        job = new_job(Caller("one"))
        await jobs.start(job, nothing())
        assert has(jobs, job)
        with pytest.raises(JobNotFoundError):
            jobs.get(job.id, Caller("two"))

    with_jobs(work)


# The service


class Upload(bytes):
    """Bytes that record when they are freed; bytes do not support weak references."""

    freed: ClassVar[list[bytes]] = []

    def __del__(self) -> None:
        self.freed.append(bytes(self))


def images(n: int) -> list[Event]:
    return [ImageCompleted(number, number, 1, b"image %d" % number) for number in range(n)]


async def started_job(service: ImageService, request: ImageRequest, **fields: Any) -> ImageJob:
    body = ImageBody(prompt="p", async_mode=True, **fields)
    response = await service.respond(HTTP, body, request)
    assert response.status_code == 202
    return service.jobs.get(json.loads(bytes(response.body))["id"], LOCAL)


async def finished_job(service: ImageService, **fields: Any) -> ImageJob:
    job = await started_job(service, ImageGenerationRequest(id="r", model="m", prompt="p", seed=0, n=2), **fields)
    await until_ended(job)
    return job


def image_service(
    batches: Sequence[Sequence[Event] | RequestError | asyncio.Event] = ([STARTED, *images(2), Finished()],),
    prepare: Callable[[Any], Any] = lambda request: request,
    **settings: Any,
) -> tuple[ImageService, ListedService]:
    service = ListedService(batches, prepare)
    return ImageService(cast(Service, service), ImageSettings(**settings)), service


def test_the_images_of_a_job_are_only_in_the_store() -> None:
    async def work() -> None:
        service, submitted = image_service()
        job = await finished_job(service)
        assert submitted.deadlines == [Deadline.NONE]
        assert [image.content for image in job.results.completed] == [b"", b""]
        assert [service.store.get(name).content for name in job.image_names] == [b"image 0", b"image 1"]
        result = service.job_body(HTTP, job)["result"]
        assert [base64.b64decode(each["b64_json"]) for each in result["data"]] == [b"image 0", b"image 1"]

    asyncio.run(work())


@pytest.mark.parametrize("async_mode", [False, True])
def test_the_prepared_request_decides_the_number_of_images(async_mode: bool) -> None:
    async def work() -> Any:
        service, _ = image_service(prepare=lambda request: replace(request, n=2, format="webp"))
        request = ImageGenerationRequest(id="r", model="m", prompt="p", seed=0, n=1)
        if async_mode:
            job = await started_job(service, request)
            await until_ended(job)
            assert job.body()["n"] == 2
            return service.job_body(HTTP, job)["result"]
        return json.loads(bytes((await service.respond(HTTP, ImageBody(prompt="p"), request)).body))

    body = asyncio.run(work())
    assert [base64.b64decode(each["b64_json"]) for each in body["data"]] == [b"image 0", b"image 1"]
    assert body["output_format"] == "webp"


def test_a_job_returns_urls() -> None:
    async def work() -> None:
        service, _ = image_service()
        job = await finished_job(service, response_format="url")
        result = service.job_body(HTTP, job)["result"]
        root = "http://127.0.0.1:1/v1/images/files/"
        assert [each["url"] for each in result["data"]] == [root + name for name in job.image_names]

    asyncio.run(work())


def test_a_job_whose_images_were_evicted_is_not_found() -> None:
    async def work() -> None:
        service, _ = image_service(store_mb=0)
        job = await finished_job(service)
        assert has(service.jobs, job)
        with pytest.raises(JobNotFoundError):
            service.job_body(HTTP, job)
        assert not has(service.jobs, job)

    asyncio.run(work())


def test_deleting_a_job_deletes_its_images() -> None:
    async def work() -> None:
        service, _ = image_service()
        job = await finished_job(service)
        await service.delete_job(job)
        assert not has(service.jobs, job)
        with pytest.raises(ImageNotFoundError):
            service.store.get(job.image_names[0])

    asyncio.run(work())


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
def test_an_ended_job_does_not_keep_its_uploads(outcome: str) -> None:
    accepted, never = asyncio.Event(), asyncio.Event()
    batches: dict[str, list[Any]] = {
        "completed": [accepted, [STARTED, *images(1), Finished()]],
        "failed": [accepted, [STARTED], EngineError("broken")],
        "cancelled": [accepted, [STARTED], never],
    }

    async def work() -> None:
        service, _ = image_service(batches[outcome])
        Upload.freed.clear()
        request = ImageEditRequest(
            id="r", model="m", prompt="p", seed=1, images=[Upload(b"image")], mask=Upload(b"mask")
        )
        job = await started_job(service, request)
        del request
        assert Upload.freed == []
        accepted.set()
        if outcome == "cancelled":
            while job.status != "in_progress":
                await asyncio.sleep(0)
            await job.cancel()
        await until_ended(job)
        await asyncio.sleep(0)
        gc.collect()
        assert job.status == outcome
        assert sorted(Upload.freed) == [b"image", b"mask"]

    asyncio.run(work())
