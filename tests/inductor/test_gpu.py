"""GPU types: what fal.toolkit says where it is right, and no two boards under one name."""

from __future__ import annotations

import re

import pytest

from casinductor.inductor import gpu

NAMES = {
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 PCIe": "H100",
    "NVIDIA H200": "H200",
    "NVIDIA A100-SXM4-80GB": "A100",
    "NVIDIA A100-PCIE-40GB": "A100",
    "NVIDIA L40S": "L40S",
    "NVIDIA L4": "L4",
    "NVIDIA A10G": "A10G",
    "NVIDIA A10": "A10",
    "NVIDIA B200": "B200",
    "NVIDIA GH200 480GB": "GH200",
    "NVIDIA GeForce RTX 4090": "RTX-4090",
    "NVIDIA GeForce RTX 4090 Laptop GPU": "RTX-4090-Laptop",
    "NVIDIA GeForce RTX 3090 Ti": "RTX-3090-Ti",
    "NVIDIA GeForce RTX 3090": "RTX-3090",
    "NVIDIA RTX A6000": "RTX-A6000",
    "NVIDIA RTX 6000 Ada Generation": "RTX-6000-Ada",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTX-PRO-6000-Blackwell-Server-Edition",
    "Quadro RTX 6000": "Quadro-RTX-6000",
    "NVIDIA TITAN RTX": "TITAN-RTX",
    "NVIDIA TITAN V": "TITAN-V",
    "Tesla T4": "T4",
    "Tesla V100-SXM2-16GB": "V100",
    "AMD Instinct MI300X OAM": "MI300X",
    "AMD Instinct MI210": "MI210",
    "AMD Radeon RX 7900 XTX": "RX-7900-XTX",
}
RIGHT_IN_FAL = ["H100", "H200", "A100", "L40S", "L4", "A10G", "A10", "B200", "GH200"]


@pytest.mark.parametrize(("name", "word"), NAMES.items())
def test_short_names(name: str, word: str) -> None:
    assert gpu.short_name(name) == word


def test_fal_agrees_where_it_is_right() -> None:
    for name, word in NAMES.items():
        match = re.search(r"NVIDIA [a-zA-Z0-9]*", name)  # fal.toolkit.compilation's expression
        if match and word in RIGHT_IN_FAL:
            assert match[0][7:] == word


def test_only_sockets_and_memory_share_a_name() -> None:
    by_word: dict[str, list[str]] = {}
    for name, word in NAMES.items():
        by_word.setdefault(word, []).append(name)
    assert {word for word, names in by_word.items() if len(names) > 1} == {"H100", "A100"}


def test_the_environment_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASINDUCTOR_GPU_TYPE", "H100")
    assert gpu.get_gpu_type() == "H100"
