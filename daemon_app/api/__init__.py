"""The REST interface under /api/daemon/ (docs/api.md). A door: it reads, asks and answers."""
