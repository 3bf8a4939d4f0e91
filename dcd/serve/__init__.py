"""Serving: a store in a browser, read-only.

`app` answers requests, `browse` collects what pages show.
Uses every room below; hands out the ASGI application.
"""
