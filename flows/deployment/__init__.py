"""Deployment is what runs beside flows in an operated installation.

It deploys `deployments/prefect.yaml`, attends to runs, and sweeps up what was killed.
It uses Prefect's client; the command line, the flows and `make up` use it.
"""
