"""How the processes of a run find each other."""

import pytest

from jaxlung.parallel import cluster


def test_flags_name_a_cluster():
    assert cluster.find({}, "host:1234", 4, 3) == cluster.Cluster("host:1234", 4, 3)


def test_flags_win_over_the_environment():
    environ = {
        "JAX_COORDINATOR_ADDRESS": "other:1",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "1",
        "SLURM_STEP_NUM_TASKS": "8",
    }
    assert cluster.find(environ, "host:1234", 4, 3) == cluster.Cluster("host:1234", 4, 3)
    assert cluster.find(environ) == cluster.Cluster("other:1", 2, 1)


@pytest.mark.parametrize(
    "environ",
    [
        {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "1"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"},
    ],
)
def test_jax_asks_slurm_mpi_and_tpus_itself(environ):
    assert cluster.find(environ) == cluster.Cluster()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_JOB_ID": "7"},  # A shell of a job, not a task of it.
        {"SLURM_STEP_NUM_TASKS": "1"},
        {"OMPI_COMM_WORLD_SIZE": "1"},
        {"TPU_WORKER_HOSTNAMES": "localhost"},
    ],
)
def test_a_process_of_its_own_has_none(environ):
    assert cluster.find(environ) is None


@pytest.mark.parametrize(
    ("environ", "flags", "message"),
    [
        ({}, ("host:1", None, None), "--coordinator: want --num_processes and --process_id too"),
        ({}, (None, 2, 0), "--num_processes, --process_id: want --coordinator too"),
        ({}, ("host", 2, 0), "--coordinator: got 'host', want HOST:PORT of process 0"),
        ({}, ("host:x", 2, 0), "--coordinator: got 'host:x', want HOST:PORT"),
        ({}, ("host:1", 2, 2), "--process_id: got 2, want 0 to 1"),
        ({}, ("host:1", 0, 0), "--num_processes: got 0, want 1 or more"),
        (
            {"JAX_COORDINATOR_ADDRESS": "host:1", "JAX_NUM_PROCESSES": "2"},
            (None, None, None),
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES: want JAX_PROCESS_ID too",
        ),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "host:1",
                "JAX_NUM_PROCESSES": "two",
                "JAX_PROCESS_ID": "0",
            },
            (None, None, None),
            "JAX_NUM_PROCESSES: got 'two', want a whole number",
        ),
    ],
)
def test_what_can_not_be_is_one_sentence(environ, flags, message):
    with pytest.raises(ValueError, match=message):
        cluster.find(environ, *flags)
