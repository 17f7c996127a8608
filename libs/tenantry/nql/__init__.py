"""NQL, the query language: its text, its tree, its types and its meaning for one record; pure.

No I/O, no clock, no randomness: the present moment and the time zone come in as arguments, and times are Unix milliseconds.
What a query means over many records is compiled by the Master (``tenantry.master.query``). The reference is docs/reference/nql.md.
"""
