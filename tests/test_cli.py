"""The command line as a user runs it: in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from casinductor.cli.main import _COMMANDS as COMMANDS
from tests.conftest import Fleet, Tree, content

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture
def run(fleet: Fleet) -> Any:
    def run_command(*arguments: object, **extra: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "CASINDUCTOR_STORE": str(fleet.store),
            "CASINDUCTOR_STATE_DIR": str(fleet.folder / "state/cli"),
            "CASINDUCTOR_GPU_TYPE": "H100",
            **extra,
        }
        return subprocess.run(
            [sys.executable, "-m", "casinductor", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )

    return run_command


def as_json(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_push_and_pull(run: Any, fleet: Fleet) -> None:
    made = Tree(fleet.folder / "made").model("ab")
    pushed = as_json(run("push", "m/v1", "--from", made.root, "--json"))
    assert pushed["groups_added"] == 5
    assert pushed["files_seen"] == 8
    assert pushed["bytes_uploaded"] == sum(
        path.stat().st_size for path in fleet.files("*.pack") + fleet.files("*.manifest")
    )
    target = fleet.folder / "pulled"
    pulled = as_json(run("--json", "pull", "m/v1", "--to", target, "--restore", "all"))
    assert pulled["files_written"] == 8
    assert pulled["refused"] == 0
    assert pulled["bytes_read"] > 0
    assert pulled["bytes_written"] == sum(map(len, content(target).values()))
    assert set(content(target)) == set(made.content())
    again = as_json(run("push", "m/v1", "--from", made.root, "--json"))
    assert (again["groups_added"], again["bytes_uploaded"]) == (0, 0)
    assert not (made.root / ".casinductor" / "stage").exists()


def test_stats_and_ls(run: Any, fleet: Fleet) -> None:
    Tree(fleet.folder / "one").model("ab")
    Tree(fleet.folder / "two", seed=4).model("cd")
    for key in ("one", "two"):
        assert run("push", key, "--from", fleet.folder / key).returncode == 0
    whole = as_json(run("stats", "--json"))
    assert whole["groups"] == 10
    assert whole["artifacts"] == 16
    assert whole["packs"] == whole["manifests"] == whole["caches"] == 2
    objects = fleet.files("*.pack") + fleet.files("*.manifest")
    assert whole["stored_bytes"] == sum(path.stat().st_size for path in objects)
    assert whole["unique_bytes"] <= whole["logical_bytes"]
    one = as_json(run("stats", "one", "--json"))
    assert (one["groups"], one["packs"]) == (5, 1)
    listed = as_json(run("ls", "--json"))
    assert [line["key"] for line in listed] == ["one", "two"]
    groups = as_json(run("ls", "one", "--json"))
    assert {line["kind"] for line in groups} == {
        "cpp",
        "fxgraph",
        "module",
        "best_config",
        "triton",
    }
    for command in (["ls"], ["ls", "one"], ["stats"], ["stats", "two"]):
        shown = run(*command)
        assert shown.returncode == 0
        assert "one" in shown.stdout or "on disk" in shown.stdout or "id\tkind" in shown.stdout


def test_compact(run: Any, fleet: Fleet) -> None:
    for name in ("ab", "cd"):
        Tree(fleet.folder / name).model(name)
        run("push", "m", "--from", fleet.folder / name)
    report = as_json(run("compact", "m", "--json"))
    assert report["manifests_replaced"] == 2
    assert len(fleet.files("*.manifest")) == 1
    assert as_json(run("compact", "m", "--json"))["manifests_replaced"] == 0
    assert as_json(run("pull", "m", "--to", fleet.folder / "x", "--json"))["lost"] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["pull", "absent", "--to", "{tmp}/x"], 5, "holds no cache H100/absent"),
        (["stats", "absent"], 5, "holds no cache"),
        (["ls", "absent"], 5, "holds no cache"),
        (["compact", "absent"], 5, "holds no cache"),
        (["push", "../x", "--from", "{tmp}"], 2, "cache key '../x'"),
        (["pull", "a//b", "--to", "{tmp}/x"], 2, "empty part"),
        (["push", "m", "--from", "{tmp}/absent"], 6, "there is no directory"),
        (["--store", "{tmp}/no/such", "pull", "m", "--to", "{tmp}/x"], 3, "not mounted"),
        (["--store", "ftp://b/p", "ls"], 8, "neither a directory nor one of s3://"),
        (["--store", "s3://me:hush@b", "ls"], 2, "holds credentials"),
        (["--gpu", "a/b", "stats", "m"], 2, "GPU type"),
        (["pull", "m", "--to", "{tmp}/x", "--restore", "some"], 2, "Invalid value"),
        (["frobnicate"], 2, "there is no command"),
    ],
)
def test_errors_are_one_line_and_a_status(
    run: Any, tmp_path: Path, arguments: list[str], status: int, says: str
) -> None:
    (tmp_path / "store").mkdir(exist_ok=True)
    result = run(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert result.returncode == status, result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    if status != 2 or result.stderr.startswith("casinductor:"):
        assert len(result.stderr.splitlines()) == 1


def test_quiet_prints_nothing(run: Any, fleet: Fleet) -> None:
    made = Tree(fleet.folder / "made").model("ab")
    for command in (
        ["push", "m", "--from", made.root],
        ["pull", "m", "--to", fleet.folder / "x"],
        ["ls"],
        ["stats"],
        ["compact", "m"],
    ):
        result = run(*command, "--quiet")
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_settings_come_from_the_environment(run: Any, fleet: Fleet) -> None:
    made = Tree(fleet.folder / "made").model("ab")
    result = run("push", "m", "--json", CASINDUCTOR_LOCAL_DIR=str(made.root))
    assert as_json(result)["groups_added"] == 5
    bad = run("pull", "m", CASINDUCTOR_RESTORE_DEADLINE="soon")
    assert (bad.returncode, "CASINDUCTOR_RESTORE_DEADLINE" in bad.stderr) == (2, True)


def test_no_command_but_the_demo_imports_torch(fleet: Fleet) -> None:
    code = (
        "import sys\nfrom casinductor.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    Tree(fleet.folder / "made").model("ab")
    for command in (
        ["push", "m", "--from", fleet.folder / "made"],
        ["pull", "m", "--to", fleet.folder / "x"],
        ["stats"],
        ["--help"],
    ):
        arguments = ["--store", str(fleet.store), *map(str, command)]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


def test_every_command_and_option_is_documented(run: Any) -> None:
    text = (DOCS / "cli.md").read_text()
    for command in COMMANDS:
        assert f"## casinductor {command}\n" in text
        section = text.split(f"## casinductor {command}\n")[1].split("\n## ")[0]
        shown = run(command, "--help").stdout.partition("\nOptions:")[2]
        for word in shown.split():
            if word.startswith("--") and word.rstrip(",") != "--help":
                assert f"`{word.rstrip(',')}" in section + text.split("## casinductor")[0], word


def test_every_exit_status_and_code_is_documented() -> None:
    from casinductor import errors

    text = (DOCS / "cli.md").read_text()
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.CasinductorError):
            assert f"`{error.code}`" in text, error
            row = next(line for line in text.splitlines() if f"`{error.code}`" in line)
            assert f"| {error.exit_status} |" in row


def test_every_setting_is_documented() -> None:
    text = (DOCS / "cli.md").read_text()
    source = (DOCS.parent / "casinductor/settings.py").read_text()
    import re

    for name in set(re.findall(r'text\("(\w+)"\)', source)):
        assert f"`CASINDUCTOR_{name}`" in text, name


#: Shows a bar at once, however quick the work is.
_IMPATIENT = """
from casinductor.cli import bar, main
bar.PATIENCE = -1
main.main()
"""


def test_ctrl_c_stops_a_compaction_whole(run: Any, fleet: Fleet) -> None:
    made = Tree(fleet.folder / "made").model("ab")
    words = b" ".join(b"%x" % (n * 2654435761 % 2**32) for n in range(3_000_000))
    (made.root / "zz").mkdir()
    name = "f" + "a" * 51
    (made.root / "fxgraph/aa" / name).mkdir(parents=True)
    for number in range(8):
        part = words[number << 21 : (number + 1) << 21]
        (made.root / "fxgraph/aa" / name / f"{number:064x}").write_bytes(part)
    assert run("push", "m", "--from", made.root).returncode == 0
    before = {path: path.read_bytes() for path in fleet.files("*.manifest")}
    arguments = ["--store", str(fleet.store), "--gpu", "H100", "compact", "m", "--level", "19"]
    process = subprocess.Popen([sys.executable, "-m", "casinductor", *arguments])
    while not fleet.files("*.pack.*") and not list(fleet.store.rglob("*tmp*")):
        if process.poll() is not None:
            pytest.fail("the compaction was over before it could be stopped")
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert {path: path.read_bytes() for path in fleet.files("*.manifest")} == before
    assert run("check", "--data", "all").returncode == 0


def test_a_bar_is_shown_on_a_terminal_only(fleet: Fleet) -> None:
    """A pseudo-terminal as standard error sees the bar; a pipe does not."""
    import pty

    made = Tree(fleet.folder / "made").model("ab")
    environment = {**os.environ, "TERM": "xterm", "CASINDUCTOR_GPU_TYPE": "H100"}
    arguments = ["--store", str(fleet.store), "push", "m", "--from", str(made.root)]
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _IMPATIENT, *arguments],
        stdout=subprocess.PIPE,
        stderr=follower,
        env=environment,
        text=True,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(leader)
    output, _ = process.communicate()
    assert process.returncode == 0
    assert b"publishing H100/m" in shown
    assert "publishing" not in output


def test_retention_removal_and_their_undoing(run: Any, fleet: Fleet) -> None:
    for number, key in enumerate(("one", "two")):
        Tree(fleet.folder / key, seed=number).model(("ab", "cd")[number])
        assert run("push", key, "--from", fleet.folder / key).returncode == 0
    said = as_json(run("gc", "--max-bytes", "1", "--keep", "H100/o*", "--json"))
    assert (said["applied"], list(said["caches"])) == (False, ["H100/two"])
    assert "nothing was changed" in run("gc").stdout
    assert run("rm", "one").returncode == 0
    assert run("pull", "one", "--to", fleet.folder / "t").returncode == 5
    assert not (fleet.folder / "t").exists() or content(fleet.folder / "t") == {}
    assert as_json(run("ls", "--json"))[0]["key"] == "two"
    assert run("stats", "one").returncode == 5
    assert as_json(run("undelete", "one", "--json"))["groups"] == 5
    assert [line["key"] for line in as_json(run("ls", "--json"))] == ["one", "two"]
    assert run("undelete", "one").returncode == 5
    done = as_json(
        run("gc", "--apply", "--max-bytes", "1B", "--keep", "one", "--spare", "0s", "--json")
    )
    assert done["applied"]
    assert done["bytes_freed"] > 0
    assert [line["key"] for line in as_json(run("ls", "--json"))] == ["one"]
    for wrong in ("5x", "many", "-3d"):
        result = run("gc", "--keep-within", wrong)
        assert result.returncode == 2
        assert "30d" in result.stderr or "No such option" in result.stderr


def test_check_and_repair(run: Any, fleet: Fleet) -> None:
    Tree(fleet.folder / "one").model("ab")
    assert run("push", "one", "--from", fleet.folder / "one").returncode == 0
    assert "all good" in run("check", "--data", "all").stdout
    assert as_json(run("check", "--for", "5s", "--json"))["packs_read"] == 1
    assert run("repair").stdout == "nothing to repair\n"
    (pack,) = fleet.files("*.pack")
    data = bytearray(pack.read_bytes())
    data[40] ^= 0x55
    pack.write_bytes(data)
    assert run("check").returncode == 0
    found = run("check", "--data", "100%")
    assert found.returncode == 4
    assert pack.name in found.stdout
    assert "H100/one" in found.stdout
    mended = run("repair", "--data", "all")
    assert mended.returncode == 0
    assert "H100/one lost" in mended.stdout
    assert run("gc", "--apply", "--spare", "0s").returncode == 0
    assert run("check", "--data", "all").returncode == 0
    assert as_json(run("push", "one", "--from", fleet.folder / "one", "--json"))["groups_added"] > 0
