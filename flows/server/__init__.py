"""A Prefect server comes up for one command.

It is started early and stopped with its queue drained, and waits where another one is migrating.
The room uses Prefect's own server; it hands out `temporary_server`.
"""
