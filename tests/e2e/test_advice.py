"""Advice that explain gives is followed, with the real torch, and helps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.site import Site

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("real_torch"),
]
CUSTOM = """
import torch
class Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.cos()
with synchronized_inductor_cache("m/v1"):
    x = torch.ones(8, 8, requires_grad=True)
    torch.compile(lambda x: Sine.apply(x).sum())(x).backward()
"""
AUTOCAST = """
import torch
def model(x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return (x @ x).sum()
with synchronized_inductor_cache("m/v1"):
    torch.compile(model)(torch.ones(8, 8))
"""


def causes(site: Site) -> list[str]:
    command = [sys.executable, "-m", "casinductor", "--json", "explain", "m/v1"]
    said = subprocess.run(command, env=site.environment(), capture_output=True, check=True)
    return [cause["kind"] for cause in json.loads(said.stdout)["causes"]]


def test_custom_autograd_functions(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert "bypassed" in site.run(CUSTOM)
    assert "custom autograd" in causes(site)
    for _ in range(2):
        site.forget()
        said = site.run(CUSTOM, TORCHINDUCTOR_AUTOGRAD_CACHE_ALLOW_CUSTOM_AUTOGRAD="1")
    assert "aotautograd 1 of 1 hit" in said
    assert causes(site) == []


@pytest.mark.soak
def test_autocast_inside_of_what_is_compiled(tmp_path: Path) -> None:
    site = Site(tmp_path)
    assert "bypassed" in site.run(AUTOCAST)
    assert "autocast" in causes(site)
