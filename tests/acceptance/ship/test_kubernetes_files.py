"""The manifests for Kubernetes and CloudNativePG: valid by schema, with settings, images and references that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import kubernetes_validate
import pytest
import yaml

from everindex.settings import FILE_VARIABLES, Settings
from repository import REPOSITORY
from shipping import Shell

BASE = REPOSITORY / "deploy" / "kubernetes"
OPERATOR = REPOSITORY / "deploy" / "cloudnativepg"
#: The fields of the custom resources that are used here, as the CRDs of CloudNativePG name them (postgresql.cnpg.io/v1:
#: clusters, databases; release 1.27, config/crd/bases). A whole schema of them is on PyPI in no package.
FIELDS: dict[str, dict[str, Any]] = {
    "Cluster": {
        "instances": int, "imageName": str, "bootstrap": {"initdb": {"database": str, "owner": str, "dataChecksums": bool}},
        "enableSuperuserAccess": bool, "storage": {"size": str, "storageClass": str}, "walStorage": {"size": str},
        "ephemeralVolumesSizeLimit": {"shm": str, "temporaryData": str}, "postgresql": {"parameters": {str: str}},
        "resources": {"requests": {str: str}, "limits": {str: str}},
        "affinity": {"enablePodAntiAffinity": bool, "topologyKey": str},
    },
    "Database": {
        "cluster": {"name": str}, "name": str, "owner": str, "ensure": str,
        "extensions": [{"name": str, "ensure": str, "version": str, "schema": str}],
    },
}  # fmt: skip


def documents(folder: Path) -> list[dict[str, Any]]:
    return [
        document
        for path in sorted(folder.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document["kind"] != "Kustomization"
    ]


def pods() -> dict[str, dict[str, Any]]:
    return {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for document in documents(BASE)
        if document["kind"] in ("Job", "Deployment")
    }


POD_NAMES = ("everindex-keeper", "everindex-migrate", "everindex-web")


def named(kind: str) -> list[dict[str, Any]]:
    return [document for document in documents(BASE) if document["kind"] == kind]


@pytest.mark.parametrize("document", documents(BASE), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_every_manifest_is_valid_by_the_schema_of_kubernetes(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_schema_refuses_an_unknown_field() -> None:
    document = named("Job")[0]
    document["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFilesystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def fits(value: Any, wanted: Any, where: str) -> None:
    if isinstance(wanted, dict):
        assert isinstance(value, dict), where
        for name, each in value.items():
            assert name in wanted or str in wanted, f"{where}.{name} is no field"
            fits(each, wanted.get(name, wanted.get(str)), f"{where}.{name}")
    elif isinstance(wanted, list):
        assert isinstance(value, list), where
        for each in value:
            fits(each, wanted[0], f"{where}[]")
    else:
        assert isinstance(value, wanted), where


def test_the_resources_of_the_operator_have_its_fields() -> None:
    found = {document["kind"]: document for document in documents(OPERATOR)}
    assert set(found) == set(FIELDS)
    for kind, document in found.items():
        assert document["apiVersion"] == "postgresql.cnpg.io/v1"
        fits(document["spec"], FIELDS[kind], kind)
    cluster, database = found["Cluster"], found["Database"]
    initdb = cluster["spec"]["bootstrap"]["initdb"]
    assert database["spec"]["cluster"]["name"] == cluster["metadata"]["name"]
    assert (database["spec"]["name"], database["spec"]["owner"]) == (initdb["database"], initdb["owner"])
    assert [extension["name"] for extension in database["spec"]["extensions"]] == ["vector"]
    # CloudNativePG, "Container image requirements": standard images contain pgvector, minimal ones do not.
    assert "-standard-" in cluster["spec"]["imageName"]


@pytest.mark.parametrize("folder", [BASE, OPERATOR], ids=lambda folder: folder.name)
def test_a_kustomization_names_every_file_beside_it_and_nothing_else(folder: Path) -> None:
    text = (folder / "kustomization.yaml").read_text(encoding="utf-8")
    kustomization = yaml.safe_load(text)
    others = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert {name for name in kustomization["resources"] if not name.startswith("..")} == others
    assert all((folder / name).exists() for name in kustomization["resources"])
    for generator in kustomization.get("configMapGenerator", ()):
        assert all((folder / name).is_file() for name in generator["envs"])


def environment() -> dict[str, str]:
    lines = (BASE / "settings.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_variable_is_a_setting_or_one_of_the_entrypoint_and_has_a_legal_value(lone_shell: Shell) -> None:
    known = {str(cast(Any, field.validation_alias).choices[0]) for field in Settings.model_fields.values()}
    known |= {f"{name}_FILE" for name in FILE_VARIABLES} | {"AUTO_MIGRATE"}
    given = environment()
    for pod in pods().values():
        given |= {each["name"]: each["value"] for each in pod["containers"][0].get("env", ())}
    assert set(given) <= known
    compose = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))
    for name in ("migrate", "web", "keeper"):
        assert set(compose["services"][name]["environment"]) <= known
    given.pop("DATABASE_URL_FILE")
    # A value that is not legal ends any command with setting-invalid.
    lone_shell.succeed("everindex", "model", "--help", env=given)
    done = lone_shell.run("everindex", "health", "--timeout", "0.1", "--port", "1", env=given)
    assert "setting-invalid" not in done.stderr


@pytest.mark.parametrize("name", POD_NAMES)
def test_every_pod_meets_the_restricted_standard(name: str) -> None:
    assert tuple(sorted(pods())) == POD_NAMES
    pod = pods()[name]
    container = pod["containers"][0]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65534  # as in the Dockerfile
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod)
    assert all(set(volume) - {"name"} <= {"secret", "emptyDir"} for volume in pod["volumes"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert environment()["DATABASE_URL_FILE"] == f"{mounts['database']}/uri"
    assert container["resources"]["limits"]["memory"]
    assert pod["serviceAccountName"] == named("ServiceAccount")[0]["metadata"]["name"]


def test_selectors_ports_and_names_refer_to_what_exists() -> None:
    web = next(document for document in named("Deployment") if document["metadata"]["name"] == "everindex-web")
    labels = web["spec"]["template"]["metadata"]["labels"]
    container = web["spec"]["template"]["spec"]["containers"][0]
    service, budget = named("Service")[0], named("PodDisruptionBudget")[0]
    assert service["spec"]["selector"] == labels == budget["spec"]["selector"]["matchLabels"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    assert ports["http"] == Settings.model_fields["port"].default
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"  # a lost database restarts nothing
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert budget["spec"]["minAvailable"] < web["spec"]["replicas"]
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))
    namespace, name = kustomization["namespace"], service["metadata"]["name"]
    assert namespace == named("Namespace")[0]["metadata"]["name"]
    hosts = environment()["EVERINDEX_ALLOWED_HOSTS"].split(",")
    assert hosts == [name, f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"]
    cluster = next(document for document in documents(OPERATOR) if document["kind"] == "Cluster")
    for pod in pods().values():
        assert pod["containers"][0]["image"] == kustomization["images"][0]["name"]
        assert pod["volumes"][0]["secret"]["secretName"] == f"{cluster['metadata']['name']}-app"


def test_the_network_lets_in_the_web_port_alone() -> None:
    both, web = named("NetworkPolicy")
    assert "ingress" not in both["spec"]
    assert both["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert [port["port"] for rule in both["spec"]["egress"] for port in rule["ports"]] == [53, 53, 5432]
    assert [port["port"] for rule in web["spec"]["ingress"] for port in rule["ports"]] == [8000]
