"""Word lists on a real Ray cluster of two machines, both of them on this one."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from grapheme_to_phoneme.serving.ports import unused_port
from tests.bulk.running import children_of, infer_arguments, size_of, wait_for
from tests.conftest import G2P, TinyRun, g2p_environment, run_g2p

#: Ray starts a dozen processes, each of which loads Python anew.
START_S = 300.0

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A machine that asks and one, with one CPU, that answers."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # By default Ray lets everything else on the machine go first.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    try:
        cluster.add_node(**NODE)
        yield cluster
    finally:
        cluster.shutdown()
        ray.shutdown()


def workers(node: object) -> set[int]:
    """Return the processes of a node that run tasks, or wait for one."""
    (raylet,) = node.all_processes["raylet"]
    return {
        child
        for child in children_of(raylet.process.pid)
        if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"ray::")
    }


def test_machine_that_is_lost_changes_nothing(
    cluster: Cluster, tiny_run: TinyRun, long_list: Path, long_answer: bytes, tmp_path: Path
) -> None:
    target = tmp_path / "out.tsv"
    _, lost = cluster.list_all_nodes()
    arguments = infer_arguments(tiny_run, long_list, target, "--engine", "ray")
    arguments[-3] += f" infer.ray_address={cluster.address}"
    with subprocess.Popen(
        [G2P, *arguments], env=g2p_environment(), stderr=subprocess.PIPE
    ) as process:
        try:
            wait_for(
                lambda: process.poll() is not None or size_of(tmp_path / "out.tsv.resume") > 0,
                START_S,
            )
            assert process.poll() is None, process.stderr.read()
            # First its processes, then the machine as a whole, which was the only one to answer.
            killed = workers(lost)
            assert killed
            for worker in killed:
                os.kill(worker, signal.SIGKILL)
            cluster.remove_node(lost, allow_graceful=False)
            assert process.poll() is None and not target.exists()
            cluster.add_node(**NODE)
            said = process.stderr.read()
            assert process.wait(timeout=START_S) == 0, said
        finally:
            process.kill()
    assert target.read_bytes() == long_answer
    assert [path.name for path in tmp_path.iterdir()] == ["out.tsv"]


def test_cluster_that_is_not_there(tiny_run: TinyRun) -> None:
    address = f"127.0.0.1:{unused_port()}"
    setting = ("--overrides", f"infer.ray_address={address}")
    completed = run_g2p("infer", "--model", tiny_run.model, "--engine", "ray", *setting, "stone")
    assert completed.returncode == 3 and completed.stdout == b""
    said = completed.stderr.decode()
    assert said.count("\n") == 1
    assert said.startswith(f"g2p: error: no Ray cluster answers at {address} (")


def test_package_and_dictionary_travel(
    cluster: Cluster, package_with_lexicon: Path, tiny_run: TinyRun, tmp_path: Path
) -> None:
    """To machines that have neither: every column, the exit status and the report."""
    dictionary = tmp_path / "mine.tsv"
    dictionary.write_text("mine\tM AY N\n")
    known = tiny_run.lexicon.train[0].spelling
    content = f"{known}\nmine\nunheardofword\ncafé\n{known}\n".encode()
    arguments = (
        *("infer", "--model", package_with_lexicon, "--dictionary", dictionary),
        *("--notation", "ipa", "--n-best", "2", "--show-alignment", "--show-source"),
    )
    one = run_g2p(*arguments, standard_input=content)
    setting = ("--overrides", f"infer.ray_address={cluster.address} infer.words_per_batch=2")
    several = run_g2p(*arguments, "--engine", "ray", *setting, standard_input=content)
    assert several.stdout == one.stdout and several.returncode == one.returncode == 4
    assert several.stderr == one.stderr
    for source in (b"\tlexicon\n", b"\tdictionary\n", b"\tmodel\n"):
        assert source in one.stdout
