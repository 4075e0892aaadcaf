"""``/v1/fine_tuning/jobs``."""

from __future__ import annotations

from ..errors import ApiError
from ..faults import OF_A_JOB
from ..jobs import JobRecord, token
from ..runner import new_job
from ..services import Call, expect, page
from ..wire.files import FileObject
from ..wire.jobs import (
    CheckpointList,
    CheckpointsQuery,
    CreateJob,
    EventList,
    FineTuningJob,
    JobList,
    JobsQuery,
    PageQuery,
)


async def create_job(call: Call) -> FineTuningJob:
    """Start fine-tuning a model on a file."""
    body, services = expect(call.body, CreateJob), call.services
    check_job(call, body)
    job = new_job(body, job_id=f"ftjob-{token()}", now=services.clock.now())
    record = JobRecord(job=job, planned=call.fault if call.fault in OF_A_JOB else None)
    services.jobs.save(record)
    services.jobs.event(job.id, f"Created fine-tuning job: {job.id}")
    services.runner.start(record)
    return _shown(call, job)


def check_job(call: Call, body: CreateJob) -> None:
    """Refuse what the service refuses at once.

    Raises:
        ApiError: 400, for a model or method that cannot be trained, or a file that is not there.
    """
    services = call.services
    if services.models.base_size(body.model) is None and services.models.stored(body.model) is None:
        raise ApiError(
            400,
            f"Model {body.model} is not available for fine-tuning or does not exist.",
            code="model_not_available",
            param="model",
        )
    if body.method is not None and body.method.type == "reinforcement":
        raise ApiError(400, f"The reinforcement method is not supported for model {body.model}.", param="method.type")
    for param, file_id in (("training_file", body.training_file), ("validation_file", body.validation_file)):
        if file_id is not None and services.state.get("file", file_id, FileObject) is None:
            raise ApiError(400, f"invalid {param}: {file_id}", param=param, code=f"invalid_{param}")


async def list_jobs(call: Call) -> JobList:
    """List jobs, newest first."""
    query = expect(call.query, JobsQuery)
    jobs = [record.job for record in reversed(call.services.jobs.all()) if _matches(record.job, query)]
    data, has_more = page(jobs, query.after, query.limit)
    return JobList(data=[_shown(call, job) for job in data], has_more=has_more)


def _matches(job: FineTuningJob, query: JobsQuery) -> bool:
    if query.metadata is None:
        return True
    if query.metadata == "null":
        return not job.metadata
    return query.metadata.items() <= (job.metadata or {}).items()


async def retrieve_job(call: Call) -> FineTuningJob:
    """How a job stands."""
    return _shown(call, call.services.jobs.get(call.path["fine_tuning_job_id"]).job)


async def cancel_job(call: Call) -> FineTuningJob:
    """Cancel a job."""
    return _shown(call, await call.services.runner.cancel(call.path["fine_tuning_job_id"]))


async def pause_job(call: Call) -> FineTuningJob:
    """Pause a job."""
    return _shown(call, await call.services.runner.pause(call.path["fine_tuning_job_id"]))


async def resume_job(call: Call) -> FineTuningJob:
    """Resume a paused job."""
    return _shown(call, call.services.runner.resume(call.path["fine_tuning_job_id"]))


def _shown(call: Call, job: FineTuningJob) -> FineTuningJob:
    """The job as the live service shows it, or as its published description wants it."""
    if call.services.settings.live_quirks:
        return job
    healthy = job.error is None or job.error.code is None
    return job.model_copy(
        update={
            "error": None if healthy else job.error,
            "status": "queued" if job.status == "paused" else job.status,
        }
    )


async def list_events(call: Call) -> EventList:
    """The events of a job, newest first."""
    query = expect(call.query, PageQuery)
    events = call.services.jobs.events(call.path["fine_tuning_job_id"])
    data, has_more = page(events, query.after, query.limit)
    return EventList(data=data, has_more=has_more)


async def list_checkpoints(call: Call) -> CheckpointList:
    """The checkpoints of a job, newest first."""
    query = expect(call.query, CheckpointsQuery)
    checkpoints = call.services.jobs.checkpoints(call.path["fine_tuning_job_id"])
    data, has_more = page(checkpoints, query.after, query.limit)
    return CheckpointList(
        data=data,
        has_more=has_more,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )
