"""Spread evaluations over a Ray cluster: one job measures one plan on one task, and its record travels back.

Ray is an optional dependency (`pip install ray`). Every node needs this checkout, at the same path, with the same
packages, and sees the same models and task data. Records are stored by the process that asked, one by one as they
arrive, so a run that stops goes on where it was, as on one machine. A job whose worker is lost runs again elsewhere.
"""

import functools
import os
import re
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from lm_eval.api.task import Task
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from core.evaluation.evaluate import evaluate
from core.evaluation.own_benchmarks import load_benchmark
from core.models import load_model, weights_sha256
from core.records.scores import Record

_ROOT = Path(__file__).resolve().parents[2]
MAX_LOST_WORKERS = 5
"""How often a job starts again after its worker or node was lost."""


class Job(NamedTuple):
    """One point to measure.

    model, dtype, device: as for `load_model`. benchmark: the name of a task or group, or (file name, content) of a
    benchmark of one's own. settings: the other arguments of `core.evaluation.evaluate.evaluate`.
    """

    model: str | None
    dtype: str | None
    device: str | None
    plan: str
    benchmark: str | tuple[str, bytes]
    settings: dict[str, Any]


def measure(job: Job) -> tuple[str, bytes]:
    """The record of one job as JSON, and its packed samples. Runs on a worker; raises ValueError for bad input."""
    model, tokenizer, sha256 = _load(job.model, job.dtype, job.device)
    with tempfile.TemporaryDirectory() as folder:
        about = {"weights_sha256": sha256, "results": folder} | job.settings
        (record,) = evaluate(model, tokenizer, [job.plan], [_task(job.benchmark)], **about)
        return record.model_dump_json(), (Path(folder) / record.samples_path).read_bytes()


def _task(benchmark: str | tuple[str, bytes]) -> str | Task:
    if isinstance(benchmark, str):
        return benchmark
    file, content = benchmark
    return load_benchmark(content, Path(file).stem)


@functools.lru_cache(maxsize=1)
def _load(
    model: str | None, dtype: str | None, device: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """One model per worker, kept for the worker's next job."""
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))  # Ray sets it to the job's share
    loaded, tokenizer = load_model(model, dtype=dtype, device=device)
    return loaded, tokenizer, weights_sha256(loaded)


def measure_all(jobs: Sequence[Job], address: str | None = None) -> Iterator[tuple[Record, bytes]]:
    """Records and packed samples of all jobs, each as soon as it arrives.

    address: of a running cluster, or `auto`; None or empty starts Ray on this machine.
    A job asks for one GPU where the cluster has GPUs, else for one CPU.

    Raises ValueError when Ray is not installed or not reached, and, after all other jobs, for those that failed.
    """
    ray, failed = _connect(address), []
    share = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    remote = ray.remote(**share, max_retries=MAX_LOST_WORKERS)(measure)
    running = {remote.remote(job): job for job in jobs}
    try:
        while running:
            (finished,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(finished)
            try:
                record, samples = ray.get(finished)
            except ray.exceptions.RayError as error:
                failed.append(f"{job.plan or 'dense'} on {_name(job)} ({_reason(error)})")
            else:
                yield Record.model_validate_json(record), samples
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
    if failed:
        raise ValueError(f"{len(failed)} of {len(jobs)} points failed on the cluster: {'; '.join(failed[:3])}.")


def _connect(address: str | None) -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise ValueError("Ray is not installed: pip install ray, or leave --ray out.") from error
    if not ray.is_initialized():
        try:
            _knock(address)
            # Workers find this project whatever the folder they start in.
            environment = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])}}
            ray.init(address or "local", runtime_env=environment, log_to_driver=False, logging_level="error")
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"The Ray cluster {address!r} cannot be reached ({reason}).") from error
    return ray


def _knock(address: str | None) -> None:
    """Raises OSError when nobody listens at HOST:PORT, which Ray itself would try for minutes."""
    if match := re.fullmatch(r"(?:.*://)?(?:\[(.+)\]|([^:]+)):(\d+)", address or ""):  # IPv6 in brackets
        socket.create_connection((match[1] or match[2], int(match[3])), timeout=5).close()


def _name(job: Job) -> str:
    return job.benchmark if isinstance(job.benchmark, str) else job.benchmark[0]


def _reason(error: Exception) -> str:
    """Of a failed job: what its own exception says, else what Ray says of the lost worker."""
    return (str(getattr(error, "cause", None) or error).strip() or type(error).__name__).splitlines()[0]
