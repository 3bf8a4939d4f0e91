"""The command line `dcd` has one module a command group.

Commands read arguments, call a flow or the library, and print; imports of heavy rooms stay inside.
They use flows, tasks and dcd; the room hands out the application (app).
"""
