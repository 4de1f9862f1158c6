"""Settings of torch under which nothing can be shared are told from torch or the environment."""

from __future__ import annotations

import sys
import types

import pytest

from casinductor.inductor import flags


def config(monkeypatch: pytest.MonkeyPatch, module: str, **values: object) -> None:
    fake = types.ModuleType(module)
    vars(fake).update(values)
    monkeypatch.setitem(sys.modules, module, fake)


def test_the_environment_speaks_where_torch_is_not_imported() -> None:
    assert flags.precompiles({flags.PRECOMPILE: "1"})
    assert not flags.precompiles({flags.PRECOMPILE: "0"})
    assert not flags.precompiles({})
    assert not flags.switched_off({"TORCHINDUCTOR_FX_GRAPH_CACHE": "1"})
    assert flags.switched_off({"TORCHINDUCTOR_FX_GRAPH_CACHE": "0"}) == [
        "TORCHINDUCTOR_FX_GRAPH_CACHE=0 (torch._inductor.config.fx_graph_cache)"
    ]


def test_what_was_assigned_in_torch_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(flags.PRECOMPILE, "1")
    config(monkeypatch, "torch._dynamo.config", caching_precompile=False)
    config(monkeypatch, "torch._inductor.config", force_disable_caches=True, fx_graph_cache=True)
    assert not flags.precompiles()
    assert [setting.partition("=")[0] for setting in flags.switched_off()] == [
        "TORCHINDUCTOR_FORCE_DISABLE_CACHES"
    ]
