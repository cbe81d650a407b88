"""CEL expressions and `${ … }` templates, compiled once and cached (docs/reference/expressions.md)."""

from workflows.expressions.cel import NAMES, Expression, compile_expression
from workflows.expressions.template import Template, compile_template

__all__ = ["NAMES", "Expression", "Template", "compile_expression", "compile_template"]
