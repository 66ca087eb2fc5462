"""What is true: jobs, runs, who may do what, and every legal change of them."""

from daemon_app.models.access import Account, Ticket, Token
from daemon_app.models.change import Change
from daemon_app.models.health import Snapshot
from daemon_app.models.incident import Incident
from daemon_app.models.job import Job
from daemon_app.models.node import Node
from daemon_app.models.policy import Policy, Pool
from daemon_app.models.presence import Displacement, IdleSpan
from daemon_app.models.run import Attempt, Run, Wait

__all__ = [
    "Account",
    "Attempt",
    "Change",
    "Displacement",
    "IdleSpan",
    "Incident",
    "Job",
    "Node",
    "Policy",
    "Pool",
    "Run",
    "Snapshot",
    "Ticket",
    "Token",
    "Wait",
]
