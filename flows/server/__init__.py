"""A Prefect server for one command.

Started early, stopped with its queue drained; waits where another process is migrating.
Uses Prefect's own server; hands out `temporary_server`.
"""
