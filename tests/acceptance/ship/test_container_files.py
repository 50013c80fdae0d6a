"""Dockerfile, compose.yaml and the shell scripts: checked by the tools of their trade, and for what they promise."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from repository import REPOSITORY
from shipping import Shell, executable

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", "Dockerfile"),
        ("shellcheck", "docker-entrypoint.sh", ".ci/run"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"),
    ],
    ids=lambda command: command[0],
)
def test_the_tool_of_the_trade_finds_nothing(lone_shell: Shell, command: tuple[str, ...]) -> None:
    lone_shell.succeed(*command)


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in joined.splitlines() if re.match(rf"\s*{name} ", line)]


def test_the_image_runs_unprivileged_and_answers_for_itself() -> None:
    final = DOCKERFILE.rsplit("FROM ", 1)[1]
    assert "USER 65534:65534" in final
    assert "EXPOSE 8000" in final
    assert "EVERINDEX_HOST=0.0.0.0" in final
    assert "RUN apt-get" not in DOCKERFILE
    assert "curl" not in DOCKERFILE
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["/app/docker-entrypoint.sh"]
    assert json.loads(instructions("CMD")[-1]) == ["everindex", "serve"]
    assert 'CMD ["everindex", "health"]' in final


def test_both_stages_have_one_base_with_a_version_and_a_distribution() -> None:
    bases = {line.split()[0] for line in instructions("FROM")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", bases.pop())


def test_what_the_image_copies_is_there_and_passes_the_dockerignore() -> None:
    allowed = {
        line[1:]
        for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        word.rstrip("/") for line in instructions("COPY") if not line.startswith("--from") for word in line.split()[:-1]
    }
    assert copied <= allowed
    assert all((REPOSITORY / name).exists() for name in copied)
    assert not allowed & {".env", "secrets", ".git", ".everindex"}


def test_scripts_that_are_run_may_be_run() -> None:
    for name in ("docker-entrypoint.sh", ".ci/run"):
        assert os.access(REPOSITORY / name, os.X_OK), name


def test_the_database_is_pinned_and_keeps_its_data(compose: dict[str, Any]) -> None:
    db = compose["services"]["db"]
    assert db["image"] == "pgvector/pgvector:0.8.6-pg18-trixie"
    assert db["volumes"] == ["db:/var/lib/postgresql"]  # since 18 the data lies below it, in 18/docker
    assert db["healthcheck"]["test"][:4] == ["CMD", "pg_isready", "-h", "127.0.0.1"]
    assert db["shm_size"] == "1g"
    assert db["stop_grace_period"] == "60s"
    assert "ports" not in db


def test_the_application_starts_only_after_the_migration_has_succeeded(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert services["migrate"]["command"] == ["migrate-only"]
    assert services["web"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert services["web"]["environment"]["AUTO_MIGRATE"] == "0"


def test_the_keeper_runs_beside_any_number_of_web_replicas_and_is_the_only_one(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["keeper"]["command"] == ["everindex", "keep"]
    assert services["keeper"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert services["web"]["environment"]["EVERINDEX_KEEP"] == "off"
    assert "container_name" not in services["web"]  # a name could belong to one replica only


@pytest.mark.parametrize("name", ["migrate", "web", "keeper"])
def test_our_containers_have_no_more_rights_than_they_need(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("${EVERINDEX_PUBLISH:-127.0.0.1:") for port in service.get("ports", []))


def test_no_secret_is_a_value_of_the_environment(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            assert "PASSWORD" not in name or name.endswith("_FILE"), name
            assert "://" not in value
    assert compose["secrets"] == {"db_password": {"file": "./secrets/db_password"}}


@pytest.mark.parametrize(
    ("has_browser", "uid", "expected"),
    [
        (True, 0, "system packages: everything is there"),
        (False, 0, "apt-get install --yes --no-install-recommends chromium"),
        (False, 1000, "system packages: not root, so these are not installed: chromium"),
    ],
)
def test_ci_installs_what_is_missing_and_runs_make_test(
    tmp_path: Path, lone_shell: Shell, has_browser: bool, uid: int, expected: str
) -> None:
    # A root of its own: only these programs are there, so that nothing of this machine answers or is changed.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "sleep"):
        (programs / name).symlink_to(next(p for p in (Path("/bin") / name, Path("/usr/bin") / name) if p.exists()))
    executable(programs / "make", '#!/bin/sh\necho "make $* with CI=$CI"\n')
    executable(programs / "apt-get", '#!/bin/sh\necho "apt-get $*"\n')
    for name in ("uv", "pgbouncer", "promtool"):
        executable(programs / name, "#!/bin/sh\n")
    if has_browser:
        executable(programs / "chromium", "#!/bin/sh\n")
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").replace("((EUID != 0))", f"(({uid} != 0))")
    # Whether this machine has a PostgreSQL is not what is asked here.
    script = script.replace("compgen -G '/usr/lib/postgresql/*/bin/postgres'", "true")
    (tmp_path / ".ci").mkdir()
    executable(tmp_path / ".ci" / "run", script)
    done = lone_shell.run(programs / "bash", tmp_path / ".ci" / "run", cwd=Path("/"), env={"PATH": str(programs)})
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout + done.stderr
    assert done.stdout.endswith("make test with CI=true\n")
