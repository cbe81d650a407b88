"""CEL expressions and `${ … }` templates, compiled once and cached (docs/reference/expressions.md)."""

from workflows.expressions.cel import NAMES, STEP_UNITS, Expression, check_bounds, compile_expression
from workflows.expressions.template import Template, compile_template

__all__ = [
    "NAMES",
    "STEP_UNITS",
    "Expression",
    "Template",
    "check_bounds",
    "compile_expression",
    "compile_template",
]
