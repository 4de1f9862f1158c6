"""What ``deploy/`` ships is valid, and its commands run under the constraints that it sets."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from kubernetes_validate import validate

from casinductor.cli.main import cli
from tests.conftest import Fleet, Tree
from tests.needs import need
from tests.users import in_namespace, open_the_way

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*/*.yaml"))
OBJECTS = [
    path for path in KUBERNETES if path.name not in ("kustomization.yaml", "node-cache.yaml")
]


def documents(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text("utf-8")) if found]


def pods(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod specification in an object."""
    spec = found["spec"]
    spec = spec["jobTemplate"]["spec"] if found["kind"] == "CronJob" else spec
    yield spec["template"]["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def ours(container: dict[str, Any]) -> list[str] | None:
    """The words of a container's casinductor command."""
    words = [*container.get("command", ()), *container.get("args", ())]
    if container["image"] == "casinductor":
        return [str(word) for word in words]
    return words[1:] if words[:1] == ["casinductor"] else None


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_objects_are_of_their_schema(path: Path) -> None:
    for found in documents(path):
        validate(found, "1.31", strict=True)


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_pods_are_locked_down(path: Path) -> None:
    for found in documents(path):
        for pod in pods(found):
            assert pod["securityContext"]["runAsNonRoot"] is True
            for container in containers(pod):
                locked = container["securityContext"]
                assert locked["readOnlyRootFilesystem"] is True
                assert locked["allowPrivilegeEscalation"] is False
                assert locked["capabilities"] == {"drop": ["ALL"]}
                volumes = {volume["name"] for volume in pod["volumes"]}
                assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
                if ours(container) and container["image"] == "casinductor":
                    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_their_commands_can_be_given(path: Path) -> None:
    for found in documents(path):
        for pod in pods(found):
            for container in containers(pod):
                words = ours(container)
                if words is not None:
                    parses(words)
                for variable in container.get("env", ()):
                    known(variable["name"])


def parses(words: list[str]) -> None:
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None, words
    command.make_context(words[0], list(words[1:]))


def known(variable: str) -> None:
    from casinductor.settings import unknown_variables

    assert unknown_variables({variable: "1"}) == []


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("kustomization.yaml")), ids=str)
def test_kustomizations_name_what_is_there(path: Path) -> None:
    (found,) = documents(path)
    named = [*found.get("resources", ()), *(patch["path"] for patch in found.get("patches", ()))]
    assert named
    for name in named:
        assert (path.parent / name).exists()
    others = {p.name for p in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
    assert others == set(named)


@pytest.mark.parametrize("worker", ["worker", "fleet"])
def test_the_node_cache_can_be_added_to_workers(worker: str) -> None:
    """The patch's JSON pointers lead somewhere in every Deployment that it is meant for."""
    patch = DEPLOY / "kubernetes/node-cache/node-cache.yaml"
    steps: list[dict[str, Any]] = yaml.safe_load(patch.read_text("utf-8"))
    for path in (DEPLOY / "kubernetes" / worker).glob("*.yaml"):
        for found in documents(path):
            if found["kind"] != "Deployment":
                continue
            for step in steps:
                assert step["op"] == "add"
                target: Any = found
                for part in step["path"].strip("/").split("/")[:-1]:
                    target = target[int(part)] if part.isdecimal() else target[part]
                target.append(step["value"])
            validate(found, "1.31", strict=True)


@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").glob("*")), ids=lambda p: p.name)
def test_units(path: Path) -> None:
    unit = RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text("utf-8"))
    if path.suffix == ".timer":
        assert (path.parent / f"{path.stem}.service").exists()
        assert unit["Timer"]["OnCalendar"]
        return
    words = shlex.split(unit["Service"]["ExecStart"].replace("%%", "%"))
    assert words[0].endswith("/casinductor")
    parses(words[1:])
    assert unit["Service"]["NoNewPrivileges"] == "yes"


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    for path in (DEPLOY / "systemd").glob("*"):
        text = path.read_text("utf-8").replace("/opt/casinductor/bin/casinductor", sys.executable)
        (tmp_path / path.name).write_text(text)
    units = [str(path) for path in tmp_path.iterdir()]
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [line for line in said.stderr.splitlines() if str(tmp_path) in line]
    assert wrong == []


def test_the_action_runs_its_commands(fleet: Fleet, tmp_path: Path) -> None:
    """The steps of the composite action as bash runs them, on a pull request and on a push."""
    action = yaml.safe_load((DEPLOY / "github/warm/action.yml").read_text("utf-8"))
    (tmp_path / "requirements.txt").write_text("torch==2.13.0\n")
    binaries = Path(sys.executable).parent
    key = action["runs"]["steps"][0]["run"]
    caches = {}
    for pull in ("", "7"):
        output = tmp_path / f"output{pull}"
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", key],
            cwd=tmp_path,
            env={
                **os.environ,
                "KEY": "m/v1",
                "LOCK": "requirements.txt",
                "PULL": pull,
                "GITHUB_OUTPUT": str(output),
            },
            check=True,
        )
        caches[pull] = output.read_text().strip().removeprefix("cache=")
    assert re.fullmatch(r"m/v1/\w+-[0-9a-f]{12}", caches[""])
    assert caches["7"] == f"pr-7/{caches['']}"
    for step in action["runs"]["steps"][1:]:
        local = tmp_path / "local"
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", step["run"]],
            env={
                **os.environ,
                "PATH": f"{binaries}:{os.environ['PATH']}",
                "CASINDUCTOR_STORE": str(fleet.store),
                "CASINDUCTOR_LOCAL_DIR": str(local),
                "CASINDUCTOR_STATE_DIR": str(tmp_path / "state"),
                "CASINDUCTOR_GPU_TYPE": "H100",
                "CACHE": caches["7"],
                "WARM": "",
                "COMMAND": "echo warm",
            },
            check=True,
        )


def test_the_dashboard_is_whole() -> None:
    board = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))
    numbers = [panel["id"] for panel in board["panels"]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert all(target["expr"] for target in panel["targets"])
    rules = yaml.safe_load((DEPLOY / "alerts.yaml").read_text("utf-8"))
    runbook = (ROOT / "docs/operations.md").read_text("utf-8")
    for rule in rules["groups"][0]["rules"]:
        assert f"`{rule['alert']}`" in runbook


def test_prometheus_takes_the_alerts_and_the_metrics(fleet: Fleet) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool, of Debian's package prometheus")
    alerts = ["promtool", "check", "rules", str(DEPLOY / "alerts.yaml")]
    subprocess.run(alerts, check=True, capture_output=True)
    Tree(fleet.folder / "local/w").model("ab")
    fleet.cache("w").sync()
    command = [sys.executable, "-m", "casinductor", "--store", str(fleet.store), "metrics"]
    text = subprocess.run(command, check=True, capture_output=True).stdout
    said = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")


def test_the_commands_run_as_the_pods_run_them(fleet: Fleet, tmp_path: Path) -> None:
    """As uid 65532, with a read-only root, a tmpfs and a gigabyte of address space."""
    need("unshare", "setpriv", "prlimit")
    if os.getuid() != 0:
        pytest.skip("needs root, to make a mount namespace and give up all rights in it")
    made = Tree(fleet.folder / "made").model("ab")
    fleet.cache("w", local=made.root).sync()
    place = tmp_path / "volumes"
    for folder in ("cache", "store", "tmp"):
        (place / folder).mkdir(parents=True)
    shutil.copytree(fleet.store, place / "store", dirs_exist_ok=True)
    for path in (place, *place.rglob("*")):
        os.chown(path, 65532, 65532)
    open_the_way(place)
    python = sys.executable
    steps = [
        "pull model/v1 --to /mnt/cache/inductor --restore all --allow-empty --deadline=60",
        "gc --apply --keep-within 30d --keep '*/prod-*'",
        "check --data 10% --note",
        "metrics --textfile /mnt/cache/casinductor.prom",
        "stats",
    ]
    inner = " && ".join(f"{python} -m casinductor {step}" for step in steps)
    script = (
        f"mount --rbind {place} /mnt && mount -o remount,bind,ro / && "
        "mount -o remount,bind,rw /mnt && mount -t tmpfs -o mode=1777 tmpfs /mnt/tmp && "
        "exec setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs "
        "--bounding-set=-all --inh-caps=-all "
        f"prlimit --as=1073741824 sh -euc {shlex.quote(inner)}"
    )
    said = in_namespace(
        script,
        tmp_path / "aside",
        CASINDUCTOR_STORE="/mnt/store",
        CASINDUCTOR_STATE_DIR="/mnt/tmp/casinductor",
        TMPDIR="/mnt/tmp",
    )
    assert said.returncode == 0, said.stderr
    assert "restored 8 of 8 files" in said.stdout
    assert "all good" in said.stdout
    assert "casinductor_store_caches 1.0" in (place / "cache/casinductor.prom").read_text()
