"""What is true: jobs, runs, who may do what, and every legal change of them."""

from daemon_app.models.access import Account, Ticket, Token
from daemon_app.models.job import Job
from daemon_app.models.node import Node
from daemon_app.models.run import Run

__all__ = ["Account", "Job", "Node", "Run", "Ticket", "Token"]
