"""Colours for MLIR, the form of Triton's ttir and ttgir: Pygments has no lexer for it.

Invariant: every character is some token, so that nothing is ever marked as an error.
"""

from __future__ import annotations

from pygments.lexer import RegexLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, String, Text


class MlirLexer(RegexLexer):  # type: ignore[misc]  # Pygments has no types
    """Tokens as in MLIR's language reference: values, attributes, types, operations."""

    name = "MLIR"
    tokens = {  # noqa: RUF012 - Pygments' own form
        "root": [
            (r"//[^\n]*", Comment),
            (r'"[^"\n]*"', String),
            (r"%[\w.$-]+", Name.Variable),
            (r"@[\w.$-]+", Name.Function),
            (r"#[\w.$-]+", Name.Decorator),
            (
                r"![\w.$-]+|\b(?:tensor|memref|vector|index|none|[bf]?f\d+\w*|[su]?i\d+)\b",
                Keyword.Type,
            ),
            (r"\b[a-z_]\w*\.[\w.]+", Name.Builtin),
            (r"-?\b(?:0x[0-9A-Fa-f]+|\d[\d.]*(?:[eE][+-]?\d+)?)", Number),
            (r"\b(?:module|attributes|loc|dense|true|false|unknown)\b", Keyword),
            (r"[=:,<>()\[\]{}?*|&-]+", Operator),
            (r"\w+", Text),
            (r"(?s).", Text),
        ]
    }
