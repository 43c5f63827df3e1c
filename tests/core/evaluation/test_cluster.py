"""Evaluations spread over a Ray cluster: the same records, each once, though a worker is killed in mid-run."""

import contextlib
import threading
import time

import psutil
import pytest

from core.__main__ import main
from core.evaluation import cluster
from core.records.scores import load_records, load_samples, to_frame

ray = pytest.importorskip("ray", reason="Ray is an optional dependency")

LINE = "evaluate --plan dense --plan 17-22 --plan 1-23 --plan 2-6 --tasks demo_copy,demo_arithmetic --limit 8"


@pytest.fixture
def two_nodes():
    """A local cluster of two nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield nodes, nodes.add_node(num_cpus=1)
    ray.shutdown()
    nodes.shutdown()


def scores(folder):
    records, problems = load_records(folder)
    assert not problems
    return to_frame(records).drop(columns=["date", "duration_s"])


def kill_first_job(raylet: psutil.Process, killed: list[int]) -> None:
    """SIGKILL the first worker of a node that is seen at a job; Ray names its processes after what they do."""
    while not killed and raylet.is_running():
        for worker in raylet.children(recursive=True):
            with contextlib.suppress(psutil.Error, IndexError):
                if worker.cmdline()[0].startswith("ray::measure"):
                    worker.kill()
                    killed.append(worker.pid)
                    return
        time.sleep(0.05)


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_every_record_arrives_once_though_a_worker_is_killed(two_nodes, tmp_path, monkeypatch, capsys):
    nodes, second = two_nodes
    arrived, killed, measure_all = [], [], cluster.measure_all

    def count(jobs, address):
        for record, samples in measure_all(jobs, address):
            arrived.append(record.path)
            yield record, samples

    monkeypatch.setattr(cluster, "measure_all", count)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    raylet = psutil.Process(second.all_processes["raylet"][0].process.pid)
    threading.Thread(target=kill_first_job, args=(raylet, killed), daemon=True).start()
    assert main([*LINE.split(), "--ray", nodes.address, "--results", str(tmp_path / "ray")]) == 0
    assert killed
    assert len(arrived) == len(set(arrived)) == 8 and "Measured 8 of 8" in capsys.readouterr().out
    assert main([*LINE.split(), "--results", str(tmp_path / "here")]) == 0
    assert scores(tmp_path / "ray").equals(scores(tmp_path / "here"))
    for record in load_records(tmp_path / "ray")[0]:
        assert len(load_samples(tmp_path / "ray", record)) == 8
    capsys.readouterr()
    assert main([*LINE.split(), "--ray", nodes.address, "--results", str(tmp_path / "ray")]) == 0
    assert "Nothing to do" in capsys.readouterr().out and len(arrived) == 8


@pytest.mark.filterwarnings("ignore")
def test_an_unreachable_cluster_is_one_sentence(tmp_path, capsys):
    line = ["evaluate", "--tasks", "demo_copy", "--limit", "2", "--ray", "127.0.0.1:9", "--results", str(tmp_path)]
    assert main(line) == 2
    assert capsys.readouterr().err.startswith("error: The Ray cluster '127.0.0.1:9' cannot be reached")
