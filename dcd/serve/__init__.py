"""Serving shows a store in a browser, read-only.

`app` answers requests, `browse` collects what pages show.
It uses runs, failures, report, gate and store; it hands out the ASGI application.
"""
