"""What runs beside flows in an operated installation.

Deploying `deployments/prefect.yaml`, attending to runs, and sweeping what was killed.
Uses Prefect's client; used by the command line and by deployments.
"""
