"""Flows put tasks in the order of the method, and read like the method section of the paper.

The command line, the Prefect servers and what deploys are rooms beside them.
They use tasks and dcd; they are what the command line and Prefect call.
"""
