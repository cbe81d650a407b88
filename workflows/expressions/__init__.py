"""CEL expressions and `${ … }` templates, compiled once and cached (docs/reference/expressions.md)."""

from workflows.expressions.cel import EDGE_UNITS, NAMES, STEP_UNITS, Expression, check_bounds, compile_expression
from workflows.expressions.template import Template, compile_template
from workflows.expressions.values import Budget

__all__ = [
    "EDGE_UNITS",
    "NAMES",
    "STEP_UNITS",
    "Budget",
    "Expression",
    "Template",
    "check_bounds",
    "compile_expression",
    "compile_template",
]
