"""`python -m daemon_app.cli` is `bach`."""

from daemon_app.cli import main

main()
