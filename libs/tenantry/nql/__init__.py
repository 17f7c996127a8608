"""NQL, the query language: its text, its tree, its types and its meaning for one record; pure.

No I/O, no clock, no randomness: the present moment and the time zone come in as arguments, and times are Unix milliseconds.
What a query means over many records is compiled by the Master (``tenantry.master.query``). The reference is docs/reference/nql.md.
"""

from tenantry.nql.fields import Column, FieldType, Schema
from tenantry.nql.parsing import parse, parse_commands, parse_condition
from tenantry.nql.printing import print_command, print_expression, print_query
from tenantry.nql.tree import Query, Source

__all__ = [
    "Column",
    "FieldType",
    "Query",
    "Schema",
    "Source",
    "parse",
    "parse_commands",
    "parse_condition",
    "print_command",
    "print_expression",
    "print_query",
]
