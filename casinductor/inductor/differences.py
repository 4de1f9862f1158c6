"""Why two keys differ, in words: the components of one graph's key beside those of another's.

Invariant: exactly the components whose digests differ are named, the most likely cause first; a
component that merely follows from another (a stride from a shape) is not a cause of its own.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from casinductor.inductor.code import code_change, likeness_of, operators, shortened
from casinductor.inductor.components import Component
from casinductor.inductor.tensors import device_text, shape_text, tensor_fields

#: Kinds of causes, the most likely to have caused the others first, and what to do about each.
ADVICE = {
    "torch": "run one build of torch on all workers; entries of another build are never used",
    "triton": "run one build of Triton on all workers",
    "device": "use a cache per GPU type; what was compiled for one device is not used on another",
    "device index": "give each rank one visible GPU (CUDA_VISIBLE_DEVICES), so that all compile "
    "for index 0",
    "threads": "set OMP_NUM_THREADS (or torch.set_num_threads) to one number on all workers",
    "key tag": "set TORCH_COMPILE_CACHE_KEY_TAG to one value on all workers that share",
    "config": "set this option to one value on all workers, in torch._inductor.config or by its "
    "environment variable",
    "option": "compile with the same arguments and global settings on all workers",
    "dtype": "load the model and its inputs in one dtype, or warm up each that you serve",
    "shape": "warm up this shape too, pad to fewer shapes, or compile with dynamic=True",
    "graph": "the model's code changed: the first worker with the new code compiles it once",
    "layout": "pass inputs with the same strides, alignment and requires_grad",
    "other": "see torch's sources for this component of FxGraphHashDetails",
}
_RANK = {kind: number for number, kind in enumerate(ADVICE)}
_GRAPH_FIRST = _RANK["dtype"] - 0.5

_INPUT = re.compile(r"example_inputs\[\d+\]")
_CONFIG = re.compile(r"(?:functorch|inductor|autograd)_config(?:_\w+)?\[(.*)\]")
#: Fields of an input that follow from its shape or device.
_FOLLOWS_SHAPE = {"stride", "storage_bytes", "memory_format", "storage_offset", "is_contiguous"}
_ALIKE = 0.9


@dataclass(frozen=True)
class Difference:
    """One component that differs: the ``kind`` of cause, the component's name and a sentence in
    which the stored value stands before the arrow and the wanted one behind it.
    """

    kind: str
    component: str
    text: str
    rank: float

    @property
    def advice(self) -> str:
        return ADVICE[self.kind]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "advice": self.advice}


Named = dict[str, Component]


def by_name(found: list[Component]) -> Named:
    return {component.name: component for component in found}


def differing_names(stored: Named, wanted: Named) -> set[str]:
    """The names of the components that differ or that only one of the keys has."""
    return {
        name
        for name in stored.keys() | wanted.keys()
        if name not in stored or name not in wanted or stored[name].digest != wanted[name].digest
    }


def distance(stored: Named, wanted: Named) -> float:
    """How far two keys are apart: differing components, and how unlike the graphs' code is."""
    names = differing_names(stored, wanted)
    far = float(len(names))
    if "gm" in names and "gm" in stored and "gm" in wanted:
        far += 40 * (1 - likeness_of(stored["gm"].value, wanted["gm"].value))
    return far


def likeness(stored: Named, wanted: Named) -> float:
    """From 0 to 1: the share of operators that the code of two graphs has in common."""
    if "gm" not in stored or "gm" not in wanted:
        return 0.0
    return likeness_of(stored["gm"].value, wanted["gm"].value)


def differences(stored: list[Component], wanted: list[Component]) -> list[Difference]:
    """What differs, causes before consequences."""
    old, new = by_name(stored), by_name(wanted)
    found = []
    for name in differing_names(old, new):
        before, after = old.get(name), new.get(name)
        found += _difference(name, before.value if before else "", after.value if after else "")
    if _code_came_first(old, new, {difference.kind for difference in found}):
        found = [
            Difference(d.kind, d.component, d.text, _GRAPH_FIRST) if d.kind == "graph" else d
            for d in found
        ]
    return sorted(found, key=lambda d: (d.rank, d.component != "gm", _natural(d.component)))


def _code_came_first(old: Named, new: Named, kinds: set[str]) -> bool:
    """Whether the model's code changed, rather than the code that its inputs lead to.

    Other shapes leave the number of inputs alone, and nearly all operators; another dtype brings
    conversions with it.
    """
    if "graph" not in kinds or "dtype" in kinds or "gm" not in old or "gm" not in new:
        return False
    if operators(old["gm"].value) == operators(new["gm"].value):
        return False
    same_inputs = _inputs(old) == _inputs(new)
    alike = likeness_of(old["gm"].value, new["gm"].value) >= _ALIKE
    return not ("shape" in kinds and same_inputs and alike)


def _inputs(named: Named) -> int:
    return sum(1 for name in named if _INPUT.fullmatch(name))


def _difference(name: str, old: str, new: str) -> list[Difference]:
    if name == "gm":
        return [_of("graph", name, code_change(old, new))]
    if _INPUT.fullmatch(name):
        return _input(name, old, new)
    if name == "torch_version":
        return [_of("torch", name, "another build of torch")]
    if name == "system_info[version]":
        kind = "triton" if _triton(old) != _triton(new) else "device"
        return [_of(kind, name, _change(name, old, new))]
    if name == "system_info[hash]":
        return []  # hashes the other two
    if name.startswith("system_info"):
        return [_of("device", name, _change(name, _unnamed(old), _unnamed(new)))]
    if "thread" in name:
        return [_of("threads", name, _change(name, old, new))]
    if name == "cache_key_tag":
        return [_of("key tag", name, _change(name, old, new))]
    if _CONFIG.fullmatch(name):
        return [_of("config", name, _change(name, old, new))]
    known = name.startswith(("fx_kwargs", "deterministic", "default_dtype", "cuda_matmul"))
    kind = "option" if known or "pass" in name or "patches" in name else "other"
    return [_of(kind, name, _change(name, old, new))]


def _of(kind: str, name: str, text: str) -> Difference:
    return Difference(kind, name, text, _RANK[kind])


def _change(name: str, old: str, new: str) -> str:
    return f"{name}: {shortened(old) or 'absent'} -> {shortened(new) or 'absent'}"


def _unnamed(value: str) -> str:
    """``{'name': 'NVIDIA H100'}`` is shown as the name."""
    match = re.fullmatch(r"\{'name': '([^']*)'\}", value)
    return match[1] if match else value


def _triton(value: str) -> str:
    match = re.search(r"'triton': '([^']*)'", value)
    return match[1] if match else ""


def _input(name: str, old: str, new: str) -> list[Difference]:
    """One difference per aspect of an input: device, dtype, shape, or else its layout."""
    if not old or not new:
        more = "has one input more" if not old else "has one input less"
        return [_of("graph", name, f"{name}: the graph {more}")]
    before, after = tensor_fields(old), tensor_fields(new)
    if not before or not after:
        return [_of("shape", name, _change(name, old, new))]
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    found = []
    if "device" in changed:
        one, two = before.get("device", ""), after.get("device", "")
        same_type = one.partition(",")[0] == two.partition(",")[0]
        kind = "device index" if same_type else "device"
        found.append(_of(kind, name, f"{name}: device {device_text(one)} -> {device_text(two)}"))
    if "dtype" in changed:
        text = f"{name}: dtype {before.get('dtype')} -> {after.get('dtype')}"
        found.append(_of("dtype", name, text.replace("torch.", "")))
    if "shape" in changed:
        one, two = shape_text(before.get("shape", "")), shape_text(after.get("shape", ""))
        found.append(_of("shape", name, f"{name}: shape {one} -> {two}"))
    left = [k for k in changed if k not in ("device", "dtype", "shape")]
    if found:
        left = []
    elif "stride" in left:
        left = ["stride"]
    for key in left:
        text = f"{name}: {key} {before.get(key)} -> {after.get(key)}"
        found.append(_of("layout", name, shortened(text)))
    return found


def _natural(name: str) -> tuple[str, int]:
    match = re.search(r"\[(\d+)\]", name)
    return re.sub(r"\[\d+\]", "", name), int(match[1]) if match else 0
