"""The Python examples of the README and of ``docs``, as they stand there, on a real torch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.site import Site

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("real_torch"),
]
#: What an example's reader has already: a model, and a way to warm it up.
READER = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU())
def warmup(compiled):
    with torch.no_grad():
        compiled(torch.ones(2, 8))
def build_unet(path):
    open(path, "wb").write(b"built")
    print("BUILT")
"""


def examples(page: str) -> list[str]:
    text = (ROOT / page).read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def with_a_model(example: str) -> str:
    """Where an example says that a model is compiled, one is."""
    return example.replace("    ...  #", "    warmup(torch.compile(model))  #")


def test_the_sites_first_page_begins_as_the_readme() -> None:
    assert examples("docs/index.md") == examples("README.md")[:1]


@pytest.mark.parametrize("page", ["README.md", pytest.param("docs/api.md", marks=pytest.mark.soak)])
def test_examples_share_what_they_compile(page: str, tmp_path: Path) -> None:
    for number, example in enumerate(examples(page)):
        site = Site(tmp_path / str(number))
        first = site.run(READER + with_a_model(example))
        assert "0 of 1 hit, 1 missed" in first, example
        site.forget()
        second = site.run(READER + with_a_model(example))
        assert "fxgraph 1 of 1 hit" in second, example
        assert "0 kernels built" in second


def test_a_package_is_built_once(tmp_path: Path) -> None:
    (example,) = examples("docs/families.md")
    site = Site(tmp_path)
    assert "BUILT" in site.run(READER + example)
    site.forget()
    assert "BUILT" not in site.run(READER + example)


def test_what_the_body_raises_goes_on_and_is_shared(tmp_path: Path) -> None:
    site = Site(tmp_path)
    block = """
from casinductor import Cache
try:
    with Cache("m/v1") as cache:
        warmup(torch.compile(model))
        raise KeyError("mine")
except KeyError:
    print("raised", cache.synced.groups_added > 0, cache)
"""
    said = site.run(READER + block)
    assert f"raised True Cache('CPU/m/v1', store='{tmp_path}/store'" in said
