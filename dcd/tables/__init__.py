"""Tables: schemas of everything stored, SQL over them, and vectors as columns.

`schemas` has each table's columns, `sql` every query as a named constant.
Uses Arrow and DuckDB alone; hands out pure functions on tables.
"""
