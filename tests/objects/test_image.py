"""Images of files to be mounted, in a real registry, unpacked by ``umoci`` and read as MCV does."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from casinductor.inspect.image import TRITON_ROOT, VLLM_ROOT
from tests.conftest import Fleet, content
from tests.needs import need
from tests.objects.test_registry import Registry, Run
from tests.objects.test_registry import registry as registry
from tests.objects.test_registry import run as run
from tests.test_families import AOT, HASH, Machine, Maker
from tests.test_families import machine as machine

pytestmark = pytest.mark.servers
OTHER = AOT.replace("ab", "cd")


@pytest.fixture
def engine(machine: Maker) -> Machine:
    """What a GPU worker of vLLM left: two compiled models, an index of a third, a kernel."""
    made = machine("producer", accelerator="12.9", device="NVIDIA H100 80GB HBM3")
    made.engine()
    made.engine(seed=1, aot=OTHER)
    made.kernel()
    root = made.root("vllm")
    index = root / "torch_compile_cache/0123456789ab/rank_0_0/backbone"
    index.mkdir(parents=True)
    (index / "vllm_compile_cache.py").write_text("{}")
    (index / "artifact_0").write_bytes(b"compiled" * 100)
    made.cache("vllm/llama").sync()
    return made


def image_of(registry: Registry, name: str) -> tuple[dict[str, str], dict[str, bytes]]:
    """Labels and members, fetched and checked as MCV's fetcher does: media types, one gzip layer,
    digests, and no member that begins with ``./``.
    """
    repository, _, tag = name.partition(":")
    base = f"http://{registry.host}/v2/{repository}"
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}

    def fetch(path: str, **headers: str) -> bytes:
        request = urllib.request.Request(f"{base}/{path}", headers=headers)
        with urllib.request.urlopen(request) as answer:
            data: bytes = answer.read()
            return data

    manifest: dict[str, Any] = json.loads(fetch(f"manifests/{tag}", **accept))
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    data = fetch(f"blobs/{layer['digest']}")
    assert layer["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    config = json.loads(fetch(f"blobs/{manifest['config']['digest']}"))
    plain = gzip.decompress(data)
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(plain).hexdigest()}"]
    assert config["os"] == "linux"
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        members = {}
        for member in archive.getmembers():
            assert member.isfile()
            assert not member.name.startswith((".", "/"))
            assert ".." not in member.name.split("/")
            file = archive.extractfile(member)
            assert file is not None
            members[member.name] = file.read()
    return config["config"]["Labels"], members


def copy_image(run: Run, engine: Machine, registry: Registry, name: str, *more: str) -> Any:
    tag = registry.address(name)
    words = ("vllm/llama", "--image", *more)
    return run("copy", engine.fleet.store, tag, *words)


def test_an_aot_model_of_vllm(engine: Machine, run: Run, registry: Registry) -> None:
    told = copy_image(run, engine, registry, "ml/llama:v1", "--hash", "abab", "--arch", "sm_90")
    labels, members = image_of(registry, "ml/llama:v1")
    assert labels == told["labels"]
    assert json.loads(labels["cache.vllm.image/summary"]) == {
        "targets": [{"backend": "cuda", "arch": "sm_90", "warp_size": 32}]
    }
    assert labels["cache.vllm.image/format"] == "aot_compile"
    assert labels["io.kserve.km/cache-hash"] == "ab" * 32
    subpath = labels["io.kserve.km/cache-mount-subpath"]
    assert subpath == "torch_compile_cache/torch_aot_compile"
    assert labels["io.kserve.km/cache-root-env"] == f"VLLM_CACHE_ROOT={VLLM_ROOT}"
    assert "vllm 0.32.0" in labels["casinductor.packages"]
    assert labels["casinductor.torch"]
    cache = {n: d for n, d in members.items() if n.startswith("io.vllm.cache/")}
    assert int(labels["cache.vllm.image/cache-size-bytes"]) == sum(map(len, cache.values()))
    mounted = f"io.vllm.cache/{subpath}/{'ab' * 32}/"
    assert {name[: len(mounted)] for name in cache} == {mounted}
    wanted = {
        path: data
        for path, data in engine.files("vllm").items()
        if path.startswith(AOT) and not path.endswith(".lock")
    }
    found = {name.removeprefix("io.vllm.cache/"): data for name, data in cache.items()}
    assert found.keys() == wanted.keys()
    moved = {path for path in found if found[path] != wanted[path]}
    assert all("__grp__" in path for path in moved), "only they hold paths"
    assert all(VLLM_ROOT.encode() in found[path] for path in moved)
    (entry,) = json.loads(members["io.vllm.manifest/manifest.json"])["vllm"]
    assert (entry["vllmHash"], entry["cacheFormat"]) == ("ab" * 32, "aot_compile")
    (model,) = entry["aot_compile"]
    size = len(wanted[f"{AOT}/rank_0_0/model"])
    assert (model["rank"], model["model_file"], model["file_size"]) == ("rank_0_0", "model", size)


def test_a_binary_cache_of_vllm(engine: Machine, run: Run, registry: Registry) -> None:
    copy_image(run, engine, registry, "ml/llama:v2", "--hash", "0123", "--arch", "sm_90")
    labels, members = image_of(registry, "ml/llama:v2")
    assert labels["cache.vllm.image/format"] == "binary"
    assert labels["io.kserve.km/cache-mount-subpath"] == "torch_compile_cache"
    (entry,) = json.loads(members["io.vllm.manifest/manifest.json"])["vllm"]
    (binary,) = entry["binary"]
    assert (binary["rank"], binary["prefix"]) == ("rank_0_0", "backbone")
    assert binary["artifact_count"] == 2


def test_kernels_of_triton(machine: Maker, run: Run, registry: Registry) -> None:
    made = machine("producer")
    made.kernel()
    described: dict[str, Any] = {"name": "k", "num_warps": 4, "num_stages": 3}
    described["target"] = {"backend": "cuda", "arch": 90, "warp_size": 32}
    (made.root("triton") / HASH / "k.json").write_text(json.dumps(described))
    made.cache("vllm/llama").sync()
    copy_image(run, made, registry, "ml/kernels:v1")
    labels, members = image_of(registry, "ml/kernels:v1")
    (target,) = json.loads(labels["cache.triton.image/summary"])["targets"]
    assert (target["backend"], target["arch"]) == ("cuda", "90")
    assert labels["cache.triton.image/entry-count"] == "1"
    (entry,) = json.loads(members["io.triton.manifest/manifest.json"])["triton"]
    assert (entry["hash"], entry["num_warps"], entry["num_stages"]) == (HASH, 4, 3)
    group = json.loads(members[f"io.triton.cache/{HASH}/__grp__k.json"])
    assert group["child_paths"] == {"k.cubin": f"{TRITON_ROOT}/{HASH}/k.cubin"}


def test_the_same_content_is_the_same_image(engine: Machine, run: Run, registry: Registry) -> None:
    more = ("--hash", "abab", "--arch", "sm_90")
    one = copy_image(run, engine, registry, "a:v1", *more)
    assert copy_image(run, engine, registry, "b:v1", *more) == one


def test_tools_of_others_unpack_it(
    engine: Machine, run: Run, registry: Registry, tmp_path: Path
) -> None:
    need("skopeo", "umoci")
    copy_image(run, engine, registry, "ml/llama:v1", "--hash", "abab", "--arch", "sm_90")
    source = f"docker://{registry.host}/ml/llama:v1"
    layout = f"{tmp_path}/layout:v1"
    fetch = ["skopeo", "copy", "--src-tls-verify=false"]
    subprocess.run([*fetch, source, f"oci:{layout}"], check=True, capture_output=True)
    subprocess.run(
        ["umoci", "unpack", "--rootless", "--image", layout, str(tmp_path / "out")],
        check=True,
        capture_output=True,
    )
    _, members = image_of(registry, "ml/llama:v1")
    assert content(tmp_path / "out/rootfs") == members
    docker = ["--format", "v2s2", source, f"dir:{tmp_path}/docker"]
    subprocess.run([*fetch, *docker], check=True, capture_output=True)


def test_what_must_be_said_is_asked_for(
    engine: Machine, run: Run, registry: Registry, fleet: Fleet
) -> None:
    tag = registry.address("x:v1")
    image = ("copy", fleet.store, tag, "vllm/llama", "--image")
    assert "name one with --hash" in run(*image, status=2)
    assert "give --arch" in run(*image, "--hash", "abab", status=2)
    assert "--image takes one CACHE" in run("copy", fleet.store, tag, "--image", status=2)
    assert "oci://" in run("copy", fleet.store, "/tmp/x", "vllm/llama", "--image", status=2)
