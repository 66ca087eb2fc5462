"""What is true: jobs, runs, who may do what, and every legal change of them."""

from daemon_app.models.access import Account, Ticket, Token
from daemon_app.models.incident import Incident
from daemon_app.models.job import Job
from daemon_app.models.node import Node
from daemon_app.models.policy import Policy, Pool
from daemon_app.models.run import Attempt, Run

__all__ = [
    "Account",
    "Attempt",
    "Incident",
    "Job",
    "Node",
    "Policy",
    "Pool",
    "Run",
    "Ticket",
    "Token",
]
