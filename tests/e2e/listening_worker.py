"""Counts what torch renders for its trace while a cache listens, or nobody (argument: 1 or 0)."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any


def main() -> None:
    listening = sys.argv[1] == "1"
    from casinductor import Cache, Settings

    cache = Cache("m", settings=Settings.from_environment({**os.environ, **switch(listening)}))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache.root
    cache.restore()
    import torch
    from torch._logging._internal import trace_log

    graph_module: Any = torch.fx.GraphModule
    print_readable = graph_module.print_readable
    rendered: list[str] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        rendered.append(sys._getframe(1).f_code.co_name)
        return print_readable(*args, **kwargs)

    graph_module.print_readable = counted
    torch.compile(lambda x: (x.sin() + 1).sum())(torch.ones(8, requires_grad=True)).backward()
    during = bool(trace_log.handlers)
    report = cache.warmup()
    assert report is not None
    cache.close()
    said = {
        "rendered": rendered,
        "handlers_to_strangers": during,
        "left": [type(trace_log.handlers).__name__, len(trace_log.handlers)],
        "events": [f"{event.cache}_{event.status}" for event in report.happened],
        "graphs": report.graphs,
        "level": logging.getLogger("torch.__trace").level,
    }
    print(json.dumps(said))


def switch(listening: bool) -> dict[str, str]:
    return {"CASINDUCTOR_TRACE": "1" if listening else "0"}


main()
