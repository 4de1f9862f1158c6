"""The page of the Python API, from signatures and docstrings.

What is public is what ``casinductor.__all__`` names, and of classes what has no underscore.
"""

from __future__ import annotations

import ast
import inspect
import re
from textwrap import dedent
from typing import Any

import msgspec

import casinductor
from casinductor.errors import CasinductorError

_INTRODUCTION = """# The Python API

Made from the docstrings by `make published`. Everything here is typed (`py.typed`). Importing
`casinductor` imports neither torch nor anything heavy. Bytes are bytes, durations seconds, names
that end in `_ms` Unix milliseconds. Every report has `as_dict()`, whose JSON is what the command
line prints with `--json` (schemas in `docs/schema`), and `summary()`, a line for people.

```python
from casinductor import Cache, Settings

settings = Settings.from_environment()  # CASINDUCTOR_* variables; raises for values without sense
with Cache("my-model/v1", settings=settings) as cache:
    ...  # compile, warm up
print(cache.synced.as_dict()["bytes_uploaded"], cache.synced.warmup.summary())
```

"""
_ORDER = ("functions", "Cache", "Settings", "RestoreReport", "SyncReport", "WarmupReport")


def api_page() -> str:
    """The page in Markdown."""
    public = {name: getattr(casinductor, name) for name in casinductor.__all__}
    functions = {name: found for name, found in public.items() if inspect.isfunction(found)}
    parts = [_INTRODUCTION, "## Functions\n"]
    parts += [_function(name, found, "###") for name, found in functions.items()]
    classes = [name for name in public if inspect.isclass(public[name])]
    for name in sorted(classes, key=lambda n: _ORDER.index(n) if n in _ORDER else len(_ORDER)):
        parts.append(_class(name, public[name]))
    parts.append(_errors())
    return "\n".join(parts).rstrip() + "\n"


def _class(name: str, found: type) -> str:
    told = _markdown(inspect.getdoc(found) or "")
    parts = [f"## {name}\n\n{told}\n"]
    parts += _attributes(found)
    if issubclass(found, msgspec.Struct):
        methods = {n for n in vars(found) if not n.startswith("_")}
    else:
        if not issubclass(found, Exception):
            parts.insert(1, f"`{name}{_signature(found)}`\n")
        methods = {n for n in dir(found) if not n.startswith("_")} - set(dir(Exception))
    for method in sorted(methods, key=lambda n: (_line(found, n), n)):
        own = inspect.getattr_static(found, method)
        if isinstance(own, property):
            parts.append(f"### {name}.{method}\n\n{_markdown(inspect.getdoc(own) or '')}\n")
        elif callable(getattr(found, method)):
            parts.append(_function(f"{name}.{method}", getattr(found, method), "###"))
    return "\n".join(parts)


def _attributes(found: type) -> list[str]:
    """A table of attributes with the strings that stand behind them in the source."""
    rows = []
    for base in [c for c in reversed(found.__mro__) if c.__module__.startswith("casinductor")]:
        for name, kind, told in _documented(base):
            rows.append(f"| `{name}` | `{_cell(_plain(kind))}` | {_cell(told)} |")
    if not rows:
        return []
    return ["| attribute | type | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"]


def _documented(found: type) -> list[tuple[str, str, str]]:
    tree = ast.parse(dedent(inspect.getsource(found))).body[0]
    assert isinstance(tree, ast.ClassDef)
    told = []
    for node, following in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = inspect.cleandoc(str(following.value.value))
            told.append((node.target.id, ast.unparse(node.annotation), text))
    return told


def _function(name: str, found: Any, level: str) -> str:
    told = _markdown(inspect.getdoc(found) or "")
    return f"{level} {name}\n\n`{name}{_signature(found)}`\n\n{told}\n"


def _signature(found: Any) -> str:
    signature = inspect.signature(found)
    shown = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    return _plain(str(signature.replace(parameters=shown))).replace("'", "")


def _line(found: type, name: str) -> int:
    own = inspect.getattr_static(found, name)
    target = own.fget if isinstance(own, property) else getattr(own, "__func__", own)
    code = getattr(inspect.unwrap(target) if callable(target) else None, "__code__", None)
    return code.co_firstlineno if code is not None else 0


def _errors() -> str:
    def below(found: type[CasinductorError]) -> list[type[CasinductorError]]:
        return [found, *(e for child in found.__subclasses__() for e in below(child))]

    rows = [
        f"| `casinductor.errors.{e.__name__}` | `{e.code}` | {_cell(inspect.getdoc(e) or '')} |"
        for e in below(CasinductorError)
    ]
    head = "## Errors\n\n| class | `code` | meaning |\n| --- | --- | --- |\n"
    return head + "\n".join(rows) + "\n"


def _markdown(text: str) -> str:
    """Roles and double backquotes of docstrings as Markdown."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


def _cell(text: str) -> str:
    return " ".join(_markdown(text).split()).replace("|", "\\|")


def _plain(annotation: str) -> str:
    return re.sub(r"\b(?:casinductor|pathlib|collections)\.[\w.]*\.?(?=\w+\b)", "", annotation)
