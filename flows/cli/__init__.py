"""The command line `dcd`: one module a command group.

Commands read arguments, call a flow or the library, and print; imports of heavy rooms stay inside.
Uses flows and dcd; hands out the application (app).
"""
