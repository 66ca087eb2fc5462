"""Wiring of the project: settings, addresses, the ASGI application."""
