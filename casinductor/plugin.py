"""What engines call in each of their processes: vLLM's ``vllm.general_plugins`` and SGLang's
``sglang.srt.plugins``.

Invariant: asleep unless ``CASINDUCTOR_KEY`` is set. The first process restores before any compile
cache is read and publishes from then on; the others only say what torch's caches did. No fault of
ours reaches the engine.
"""

from __future__ import annotations

import os

KEY = "CASINDUCTOR_KEY"
#: Set by whoever restored for this process: see ``observe.spool``.
SPOOL = "CASINDUCTOR_SPOOL"
#: Seconds after which what is finished is published, where CASINDUCTOR_LIVE does not say it.
_EVERY = 30.0


def register() -> None:
    """The entry point; it may be called several times in a process."""
    key = os.environ.get(KEY, "")
    if not key and SPOOL not in os.environ:
        return
    try:
        _register(key)
    except Exception as error:
        from casinductor.util.voice import warn

        warn(f"{key or SPOOL}: the engine goes on without casinductor: {error}", error)


def _register(key: str) -> None:
    from casinductor.observe import spool
    from casinductor.settings import Settings, default_state_dir

    settings, _ = Settings.tolerant()
    if spool.OWN.here:
        return  # this process restored already
    folder = os.environ.get(SPOOL)
    if folder is not None:  # another one did
        if folder and settings.trace:
            spool.listen(folder)
        return
    from casinductor import toolkit
    from casinductor.companion.live import LIVE

    os.environ[SPOOL] = ""
    spool.begin(settings.state_dir or default_state_dir(), os.environ)
    toolkit.load_inductor_cache(key)
    cache = toolkit.loaded_cache(key)
    if cache is not None:
        LIVE.begin(cache, cache.settings.live or _EVERY, records=True)
