"""Jobs: how they get on, how they end, and how many of them are kept for how long."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fastapi import Request
from mlx_host._apis.images.jobs import Job, JobNotFound, Jobs
from mlx_host._apis.images.request import ImageBody
from mlx_host._apis.images.response import Album
from mlx_host._apis.images.routes import Studio
from mlx_host._apis.images.store import FileNotFound
from mlx_host._host import Host
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import HostSettings
from mlx_host.errors import AtCapacity, EngineFailed
from mlx_host.events import FinishedImage, ImagesStarted, Progress
from mlx_host.requests import ImageGenerationRequest


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def new() -> Job:
    request = ImageGenerationRequest(id="r", model="m", prompt="p", seed=1)
    return Job(Album("m", request, ImageBody(prompt="p")))


async def nothing() -> None:
    pass


async def forever() -> None:
    await asyncio.Event().wait()


async def refused() -> None:
    raise AtCapacity("full")


def job_of(work: Callable[[Jobs], Coroutine[Any, Any, None]], most: int = 2, clock: Clock | None = None) -> None:
    """Run a test with jobs of its own."""
    asyncio.run(work(Jobs(most, 60, clock or Clock())))


def known(jobs: Jobs, job: Job) -> bool:
    try:
        return jobs.get(job.id) is job
    except JobNotFound:
        return False


def test_a_job_gets_on() -> None:
    async def work(jobs: Jobs) -> None:
        going = asyncio.Event()
        job = new()

        async def make() -> None:
            await going.wait()
            job.album.add(ImagesStarted(prompt_tokens=1, width=16, height=16, steps=4))
            job.album.add(Progress("image", 3, 4))
            going.clear()
            await going.wait()
            job.album.add(FinishedImage(0, 1, 1, b"picture"))

        await jobs.begin(job, make())
        assert (job.status, job.described(None)["steps"]) == ("queued", None)
        going.set()
        await asyncio.sleep(0)
        described = job.described(None)
        assert (described["status"], described["step"], described["steps"]) == ("in_progress", 3, 4)
        assert (described["completed"], described["expires_at"]) == (0, None)
        going.set()
        while not job.over:
            await asyncio.sleep(0)
        described = jobs.get(job.id).described({"data": []})
        assert (described["status"], described["completed"], described["result"]) == ("completed", 1, {"data": []})
        assert described["expires_at"] == 1060

    job_of(work)


def test_a_job_that_is_refused_at_once_is_none() -> None:
    async def work(jobs: Jobs) -> None:
        job = new()
        with pytest.raises(AtCapacity, match="full"):
            await jobs.begin(job, refused())
        assert not known(jobs, job)

    job_of(work)


def test_a_job_that_fails_says_why() -> None:
    async def work(jobs: Jobs) -> None:
        job = new()

        async def fail() -> None:
            await asyncio.sleep(0)
            raise EngineFailed("broken")

        await jobs.begin(job, fail())
        while not job.over:
            await asyncio.sleep(0)
        described = job.described(None)
        assert described["status"] == "failed"
        assert described["error"]["message"] == "broken"
        assert described["error"]["code"] == "engine_failed"

    job_of(work)


def test_a_fault_of_ours_is_no_secret_but_its_details_are_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def work(jobs: Jobs) -> None:
        job = new()

        async def fail() -> None:
            await asyncio.sleep(0)
            raise ZeroDivisionError("details")

        await jobs.begin(job, fail())
        while not job.over:
            await asyncio.sleep(0)
        described = job.described(None)
        assert (described["status"], described["error"]["code"]) == ("failed", "internal_error")
        assert "details" not in str(described)

    job_of(work)
    assert "ZeroDivisionError: details" in caplog.text


def test_a_job_is_cancelled() -> None:
    async def work(jobs: Jobs) -> None:
        job, closed = new(), []

        async def until_closed() -> None:
            try:
                await forever()
            finally:
                closed.append(True)

        await jobs.begin(job, until_closed())
        await job.cancel()
        assert (closed, job.status, job.over) == ([True], "cancelled", True)
        await job.cancel()
        assert known(jobs, job)

    job_of(work)


def test_jobs_that_are_over_make_room_and_others_do_not() -> None:
    async def work(jobs: Jobs) -> None:
        over, under_way = new(), new()
        await jobs.begin(over, nothing())
        await jobs.begin(under_way, forever())
        third = new()
        await jobs.begin(third, forever())
        assert [known(jobs, job) for job in (over, under_way, third)] == [False, True, True]
        with pytest.raises(AtCapacity, match="There are 2 image jobs under way"):
            await jobs.begin(new(), nothing())
        await under_way.cancel()
        await jobs.begin(new(), nothing())
        assert not known(jobs, under_way)
        await third.cancel()

    job_of(work)


def test_jobs_that_are_over_expire() -> None:
    clock = Clock()

    async def work(jobs: Jobs) -> None:
        job, under_way = new(), new()
        await jobs.begin(job, nothing())
        await jobs.begin(under_way, forever())
        await asyncio.sleep(0)
        clock.now += 59
        assert known(jobs, job)
        clock.now += 1
        assert [known(jobs, each) for each in (job, under_way)] == [False, True]
        await under_way.cancel()

    job_of(work, clock=clock)


def finished_studio(**settings: Any) -> tuple[Studio, Job]:
    """A studio with a job that has made two pictures."""
    studio = Studio(Host(Plugins({}), [], HostSettings(**settings)))
    job = new()
    job.album.add(ImagesStarted(prompt_tokens=1, width=16, height=16, steps=4))
    for image in range(2):
        job.album.add(FinishedImage(image, image, 1, b"picture %d" % image))

    async def make() -> None:
        job.files = job.album.put_away(studio.files.keep)

    async def run() -> None:
        await studio.jobs.begin(job, make())
        await asyncio.sleep(0)

    asyncio.run(run())
    return studio, job


HTTP = Request({"type": "http", "headers": [], "server": ("127.0.0.1", 1), "path": "/", "scheme": "http"})


def test_the_pictures_of_a_job_are_in_the_store_alone() -> None:
    studio, job = finished_studio()
    assert [picture.content for picture in job.album.finished] == [b"", b""]
    assert [studio.files.get(name).content for name in job.files] == [b"picture 0", b"picture 1"]
    result = studio.describe(HTTP, job)["result"]
    assert [base64.b64decode(each["b64_json"]) for each in result["data"]] == [b"picture 0", b"picture 1"]


def test_a_job_whose_pictures_are_gone_is_gone() -> None:
    studio, job = finished_studio(image_store_mb=0)
    assert known(studio.jobs, job)
    with pytest.raises(JobNotFound):
        studio.describe(HTTP, job)
    assert not known(studio.jobs, job)


def test_a_deleted_job_takes_its_pictures_along() -> None:
    studio, job = finished_studio()
    asyncio.run(studio.delete(job))
    assert not known(studio.jobs, job)
    with pytest.raises(FileNotFound):
        studio.files.get(job.files[0])
