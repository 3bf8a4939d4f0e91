"""Tables have the schemas of everything stored, SQL over them, and vectors as columns.

`schemas` has each table's columns, `sql` every query as a named constant, and `labels` alone says
what a label or an id is.
The room uses Arrow and DuckDB alone; it hands out pure functions on tables.
"""
