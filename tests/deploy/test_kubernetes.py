"""The manifests: their commands and probes are valid, and their time limits fit."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

from tests.deploy.reading import DEPLOY, ROOT, accepted, documents, is_probe, options_of

FOLDER = DEPLOY / "kubernetes"
(KUSTOMIZATION,) = documents(FOLDER / "kustomization.yaml")
RESOURCES = [document for name in KUSTOMIZATION["resources"] for document in documents(FOLDER / name)]
RUNNING = {each["metadata"]["name"]: each for each in RESOURCES if "replicas" in each["spec"]}
OURS = ["raincheck-server", "raincheck-worker"]

each_that_runs = pytest.mark.parametrize("name", list(RUNNING))
each_of_ours = pytest.mark.parametrize("name", OURS)


def pod(name: str) -> dict[str, Any]:
    """The specification of its pod."""
    spec: dict[str, Any] = RUNNING[name]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    """Its only container."""
    (only,) = pod(name)["containers"]
    return dict(only)


def test_every_manifest_is_applied() -> None:
    """The kustomization names each file of the folder and the image."""
    assert {path.name for path in FOLDER.glob("*.yaml")} == {
        *KUSTOMIZATION["resources"],
        "kustomization.yaml",
    }
    assert {image["name"] for image in KUSTOMIZATION["images"]} == {container(name)["image"] for name in OURS}


@each_of_ours
def test_a_command_is_one_of_raincheck(name: str) -> None:
    """The command line accepts each option."""
    command = accepted(container(name)["args"])
    assert (f"raincheck-{command.name}", command.options["target"]) == (name, "app.py:app")


@each_that_runs
def test_a_pod_is_confined(name: str) -> None:
    """It is not root, cannot become root, and can write only to its volumes."""
    assert pod(name)["securityContext"]["runAsNonRoot"]
    assert pod(name)["automountServiceAccountToken"] is False
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@each_that_runs
def test_a_pod_says_what_it_needs(name: str) -> None:
    """So that it is scheduled where they are available, and cannot use the memory of other pods."""
    resources = container(name)["resources"]
    assert set(resources["requests"]) >= {"cpu", "memory"}
    assert "memory" in resources["limits"]


@each_of_ours
def test_no_service_sets_an_option(name: str) -> None:
    """If a Service were called raincheck, Kubernetes would set RAINCHECK_PORT to an address."""
    assert pod(name)["enableServiceLinks"] is False


@each_of_ours
def test_the_store_comes_from_a_secret(name: str) -> None:
    """Its URL can contain a password."""
    (store,) = [each for each in container(name)["env"] if each["name"] == "RAINCHECK_STORE"]
    assert store["valueFrom"] == {"secretKeyRef": {"name": "raincheck", "key": "store"}}


def test_callers_of_the_server_sign_in() -> None:
    """With keys and users of a Secret that it cannot write."""
    server = container("raincheck-server")
    assert not accepted(server["args"]).options["server_options"].insecure
    given = {each["name"]: each.get("value") for each in server["env"]}
    (volume,), (mount,) = pod("raincheck-server")["volumes"], server["volumeMounts"]
    assert (volume["name"], volume["secret"]["secretName"]) == (mount["name"], "raincheck")
    assert mount["readOnly"]
    files = {f"{mount['mountPath']}/{item['path']}" for item in volume["secret"]["items"]}
    assert {given["RAINCHECK_SECRET_FILE"], given["RAINCHECK_USERS"]} == files


def test_probes_ask_where_the_server_tells() -> None:
    """At existing paths. Only the readiness probe uses the store."""
    server = container("raincheck-server")
    probes = {
        kind: server[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")
    }
    assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert all(is_probe(path) for path in probes.values())


def test_a_worker_has_longer_to_stop_than_it_gives_what_runs() -> None:
    """So that it can requeue the remaining attempts."""
    grace = accepted(container("raincheck-worker")["args"]).options["worker_options"].grace
    assert pod("raincheck-worker")["terminationGracePeriodSeconds"] >= grace + 5


def test_a_server_has_longer_to_stop_than_its_requests() -> None:
    """The time before the signal counts too."""
    pause = int(container("raincheck-server")["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod("raincheck-server")["terminationGracePeriodSeconds"] >= pause + 10 + 5


def test_the_store_is_set_as_in_compose() -> None:
    """With a memory limit, and a volume for its files."""
    (compose,) = documents(ROOT / "compose.yaml")
    theirs = options_of(compose["services"]["valkey"]["command"])
    ours = options_of(container("raincheck-valkey")["args"])
    assert theirs.items() <= ours.items()
    assert ours.keys() - theirs.keys() == {"dir", "maxmemory"}


def test_kubectl_takes_them() -> None:
    """If kubectl is installed; else the test report says that this was not checked."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("NOT CHECKED: there is no kubectl here to read deploy/kubernetes")
    built = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")
    assert built.stdout.count("\nkind: ") == len(RESOURCES)
