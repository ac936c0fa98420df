"""Launch files for other machines: shell scripts with stand-ins, YAML against the API."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
import yaml
from absl.testing import parameterized

from jaxlung import job
from jaxlung.parallel import cluster

LAUNCH = pathlib.Path(__file__).parent.parent / "launch"
SCRIPTS = (LAUNCH / "slurm.sbatch", LAUNCH / "tpu_pod.sh")


class StandInTest(parameterized.TestCase):
    """Runs shell scripts with stand-ins for the programs that they call."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "bin").mkdir()

    def stand_in(self, name, script):
        path = self.folder / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{script}\n")
        path.chmod(0o755)
        return path

    def start(self, *command, **environ):
        child = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.enterContext(child)  # Closes its pipes, and waits for it,
        self.addCleanup(child.kill)  # once it is killed, if it is still there.
        return child

    def run_script(self, *command, **environ):
        child = self.start("bash", *map(str, command), **environ)
        out, err = child.communicate(timeout=30)
        return child.returncode, out, err


class ScriptTest(StandInTest):
    @parameterized.parameters(*SCRIPTS)
    def test_bash_can_read_it(self, path):
        assert self.run_script("-n", path) == (0, "", "")

    @pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck")
    def test_shellcheck_finds_nothing(self):
        done = subprocess.run(["shellcheck", *SCRIPTS], capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (0, b"")

    @parameterized.parameters(
        (0, False, 0, True),  # Stopped by the time limit, after saving.
        (0, True, 0, False),  # Done.
        (1, False, 1, False),  # Failed: again would fail again.
    )
    def test_slurm_requeues_what_was_stopped_and_nothing_else(self, code, done, want, requeued):
        self.stand_in("srun", f'echo "$@"; exit {code}')
        self.stand_in("scontrol", 'echo "scontrol $*"')
        if done:
            (self.folder / job.FINISHED).write_text("8\n")
        arguments = ("--config=covidqu", f"--workdir={self.folder}")
        got, out, _ = self.run_script(LAUNCH / "slurm.sbatch", *arguments, SLURM_JOB_ID="7")
        assert got == want
        assert ("scontrol requeue 7" in out) == requeued
        assert f"python -m jaxlung.main {' '.join(arguments)}\n" in out
        assert "--kill-on-bad-exit=1" in out

    def test_slurm_gives_each_task_of_a_study_a_gpu_and_lets_the_others_go_on(self):
        self.stand_in("srun", 'echo "$@"')
        self.stand_in("scontrol", 'echo "scontrol $*"')
        arguments = ("study", "ct_folds", f"--workdir={self.folder}")
        _, out, _ = self.run_script(LAUNCH / "slurm.sbatch", *arguments, SLURM_JOB_ID="7")
        assert "--kill-on-bad-exit=0 --gpu-bind=per_task:1 " in out
        assert f"python -m jaxlung.main {' '.join(arguments)}\n" in out
        assert "scontrol requeue 7" in out  # No task has written the table.

    def test_slurm_starts_a_process_for_each_gpu(self):
        options = dict(
            re.findall(r"^#SBATCH --([\w-]+)=(\S+)", SCRIPTS[0].read_text(), re.MULTILINE)
        )
        assert options["ntasks-per-node"] == options["gpus-per-node"]
        assert options["signal"] == "TERM@120"  # To the tasks: "B:" would be to the script alone.

    def test_slurm_wants_a_workdir(self):
        code, _, err = self.run_script(
            LAUNCH / "slurm.sbatch", "--config=covidqu", "--workdir=runs"
        )
        assert code == 2
        assert err.startswith("slurm.sbatch: got workdir 'runs', want --workdir=/FOLDER")

    @parameterized.parameters(
        ([], "got '', want install, run, follow or stop first."),
        (["start"], "got 'start', want install"),
        (["run", "--zone=z"], "want --name=NAME of the TPU."),
        (["stop", "--name=n"], "want --zone=ZONE of the TPU."),
        (["stop", "--name", "n"], "got '--name', want --name=NAME"),
        (["stop", "--name=n", "--zone=z", "--", "now"], "stop: got 'now' after --, want nothing"),
        (["run", "--name=n", "--zone=z", "--", "--config=a"], "run: got workdir '', want"),
        (["run", "--name=n", "--zone=z", "--", "--workdir=runs/a"], "got workdir 'runs/a', want"),
    )
    def test_tpu_pod_tells_a_bad_argument_in_one_sentence(self, arguments, message):
        self.stand_in("gcloud", "echo called; exit 9")
        code, out, err = self.run_script(LAUNCH / "tpu_pod.sh", *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("tpu_pod.sh: ")
        assert message in err
        assert err.count("\n") == 1

    def host(self, script):
        """A stand-in for one host: its home is the folder, its Python the script."""
        run_command = 'for x in "$@"; do [[ $x == --command=* ]] && eval "${x#*=}"; done'
        self.stand_in("gcloud", f'echo "gcloud ${{*:1:7}}" >> calls; {run_command}')
        self.stand_in("../jaxlung_pod/venv/bin/python", script)

    def test_tpu_pod_runs_the_arguments_as_they_are_on_every_host(self):
        self.host('printf "<%s>" "$@"; exit 3')
        arguments = ["--config=a b", "--workdir=/x", "--config.freeze=(a|b)&*'$HOME'"]
        flags = ["--name=n", "--zone=z", "--project=p"]
        code, out, _ = self.run_script(LAUNCH / "tpu_pod.sh", "run", *flags, "--", *arguments)
        assert code == 3
        assert "<-m><jaxlung.main>" + "".join(f"<{x}>" for x in arguments) in out
        calls = (self.folder / "calls").read_text()
        assert calls == "gcloud compute tpus tpu-vm ssh n --zone=z --worker=all\n"

    def test_tpu_pod_stops_a_run_and_refuses_a_second(self):
        self.host("trap 'echo saved; exit 0' TERM; echo training; while :; do sleep 0.05; done")
        flags = ("--name=n", "--zone=z")
        run = (LAUNCH / "tpu_pod.sh", "run", *flags, "--", "--workdir=/x")
        child = self.start("bash", *map(str, run))
        assert child.stdout.readline() == "training\n"
        code, _, err = self.run_script(*run)
        assert (code, err) == (1, "a run is in progress: follow or stop it.\n")
        assert self.run_script(LAUNCH / "tpu_pod.sh", "stop", *flags)[0] == 0
        out, _ = child.communicate(timeout=20)
        assert (child.returncode, out) == (0, "saved\n")


# Of https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2 and the Kubernetes API's batch/v1
# and core/v1: the fields that we use, and those that must be there ("!").
SCHEMA = {
    "apiVersion!": "jobset.x-k8s.io/v1alpha2",
    "kind!": "JobSet",
    "metadata!": {"name!": str},
    "spec!": {
        "network": {
            "enableDNSHostnames": bool,
            "subdomain": str,
            "publishNotReadyAddresses": bool,
        },
        "failurePolicy": {
            "maxRestarts": int,
            "restartStrategy": ("Recreate", "BlockingRecreate", "InPlaceRestart"),
            "rules": [
                {
                    "name!": str,
                    "action!": ("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"),
                    "onJobFailureReasons": [
                        (
                            "BackoffLimitExceeded",
                            "DeadlineExceeded",
                            "FailedIndexes",
                            "MaxFailedIndexesExceeded",
                            "PodFailurePolicy",
                        )
                    ],
                }
            ],
        },
        "replicatedJobs!": [
            {
                "name!": str,
                "replicas": int,
                "template!": {
                    "spec!": {
                        "completionMode": ("Indexed", "NonIndexed"),
                        "completions": int,
                        "parallelism": int,
                        "backoffLimit": int,
                        "podFailurePolicy": {
                            "rules!": [
                                {
                                    "action!": ("FailJob", "FailIndex", "Ignore", "Count"),
                                    "onExitCodes": {
                                        "containerName": str,
                                        "operator!": ("In", "NotIn"),
                                        "values!": [int],
                                    },
                                    "onPodConditions": [{"type!": str, "status!": "True"}],
                                }
                            ]
                        },
                        "template!": {
                            "spec!": {
                                "restartPolicy!": ("Never", "OnFailure"),
                                "terminationGracePeriodSeconds": int,
                                "containers!": [
                                    {
                                        "name!": str,
                                        "image!": str,
                                        "env": [
                                            {
                                                "name!": str,
                                                "value": str,
                                                "valueFrom": {"fieldRef": {"fieldPath!": str}},
                                            }
                                        ],
                                        "command": [str],
                                        "args": [str],
                                        "ports": [{"containerPort!": int}],
                                        "resources": {"limits": {"nvidia.com/gpu": int}},
                                        "volumeMounts": [{"name!": str, "mountPath!": str}],
                                    }
                                ],
                                "volumes": [
                                    {
                                        "name!": str,
                                        "persistentVolumeClaim": {"claimName!": str},
                                        "emptyDir": {"medium": ("", "Memory")},
                                    }
                                ],
                            }
                        },
                    }
                },
            }
        ],
    },
}


def complaints(value, schema, path="jobset"):
    """What in `value` isn't as `schema` says."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{path}: no mapping"]
        fields = {name.rstrip("!"): child for name, child in schema.items()}
        found = [f"{path}.{name}: unknown" for name in value.keys() - fields.keys()]
        required = {name[:-1] for name in schema if name.endswith("!")}
        found += [f"{path}.{name}: missing" for name in required - value.keys()]
        for name in value.keys() & fields.keys():
            found += complaints(value[name], fields[name], f"{path}.{name}")
        return found
    if isinstance(schema, list):
        if not isinstance(value, list) or not value:
            return [f"{path}: no list"]
        pairs = enumerate(value)
        return [x for i, child in pairs for x in complaints(child, schema[0], f"{path}[{i}]")]
    if isinstance(schema, type):
        return [] if type(value) is schema else [f"{path}: no {schema.__name__}"]
    return (
        [] if value in ((schema,) if isinstance(schema, str) else schema) else [f"{path}: {value}"]
    )


class JobsetTest(StandInTest):
    def setUp(self):
        super().setUp()
        self.jobset = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
        self.spec = self.jobset["spec"]
        (self.worker,) = self.spec["replicatedJobs"]
        self.job = self.worker["template"]["spec"]
        self.pod = self.job["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.env = {entry["name"]: entry for entry in self.container["env"]}

    def test_it_has_the_fields_of_the_api(self):
        assert complaints(self.jobset, SCHEMA) == []

    def test_the_schema_finds_mistakes(self):
        self.container["comand"] = self.container.pop("name")
        self.env["JAX_NUM_PROCESSES"]["value"] = 2  # YAML's 2 without quotes.
        self.pod["restartPolicy"] = "Always"
        found = {x.rpartition(".")[2] for x in complaints(self.jobset, SCHEMA)}
        want = {"comand: unknown", "name: missing", "value: no str", "restartPolicy: Always"}
        assert found == want

    def test_jaxlung_understands_what_a_pod_is_told(self):
        environ = {name: entry.get("value", "1") for name, entry in self.env.items()}
        got = cluster.find(environ)
        port = self.container["ports"][0]["containerPort"]
        names = (self.jobset["metadata"]["name"], self.worker["name"])
        host = f"{'-'.join(names)}-0-0.{self.spec['network']['subdomain']}"
        assert got == cluster.Cluster(f"{host}:{port}", self.job["completions"], 1)
        field = self.env["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
        assert field == "metadata.annotations['batch.kubernetes.io/job-completion-index']"

    def test_all_pods_run_at_once_and_fall_together(self):
        assert self.job["completionMode"] == "Indexed"
        assert self.job["parallelism"] == self.job["completions"]
        assert (self.job["backoffLimit"], self.worker["replicas"]) == (0, 1)
        assert self.pod["restartPolicy"] == "Never"  # A podFailurePolicy wants it so.

    def test_names_that_refer_to_others_exist(self):
        mounts = {mount["name"] for mount in self.container["volumeMounts"]}
        assert mounts == {volume["name"] for volume in self.pod["volumes"]}
        rule = self.job["podFailurePolicy"]["rules"][0]["onExitCodes"]
        assert rule["containerName"] == self.container["name"]
        (shared,) = (x for x in self.container["volumeMounts"] if x["name"] == "shared")
        assert self.env["WORKDIR"]["value"].startswith(shared["mountPath"] + "/")

    @parameterized.parameters(
        ("exit 0", True, 0),
        ("exit 0", False, 75),  # Stopped, after saving.
        ("exit 2", False, 2),
    )
    def test_a_run_that_is_not_done_asks_to_go_on(self, script, done, want):
        self.stand_in("python", script)
        if done:
            (self.folder / job.FINISHED).write_text("8\n")
        (script,) = self.container["args"]
        assert self.run_script("-c", script, WORKDIR=str(self.folder))[0] == want

    def test_a_sigterm_before_the_run_began_asks_to_go_on(self):
        (script,) = self.container["args"]
        start = "python -m jaxlung.main"
        assert start in script
        early = script.replace(start, f"kill -TERM $$; {start}")
        self.stand_in("python", "echo training")
        assert self.run_script("-c", early, WORKDIR=str(self.folder))[:2] == (75, "")

    def test_a_sigterm_just_after_the_run_began_reaches_it(self):
        (script,) = self.container["args"]
        soon = script.replace("run=$!", "kill -TERM $$; run=$!")
        assert soon != script
        self.stand_in("python", "trap 'echo told; exit 0' TERM; while true; do sleep 0.05; done")
        # The signal may come before the stand-in's trap; then it ends with 143, as a run would.
        assert self.run_script("-c", soon, WORKDIR=str(self.folder))[0] in (75, 143)

    def test_the_first_sigterm_reaches_the_run_and_it_may_save(self):
        self.stand_in(
            "python",
            "n=0; trap 'n=$((n + 1))' TERM; echo training\n"
            "while ((n == 0)); do sleep 0.05; done; sleep 0.5; echo saved after $n",
        )
        (script,) = self.container["args"]
        child = self.start(*self.container["command"], script, WORKDIR=str(self.folder))
        assert child.stdout.readline() == "training\n"
        for _ in range(2):
            child.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        out, _ = child.communicate(timeout=20)
        assert (out, child.returncode) == ("saved after 1\n", 75)
        rule = self.job["podFailurePolicy"]["rules"][0]["onExitCodes"]
        assert rule["values"] == [75]
