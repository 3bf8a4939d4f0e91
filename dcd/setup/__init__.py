"""Setup writes a first config: it looks at folders, cuts failures into roles, and explains itself.

It uses sources and config; the command `dcd init` uses it.
"""
