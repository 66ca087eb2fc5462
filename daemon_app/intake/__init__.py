"""Moving in: jobs that other programs knew, as drafts of ours, and what would become of each.

A source (`crontab`, `timers`, `legacy`, `definitions`) makes drafts. `plan` compares them with the
jobs there are and says what would happen, without changing anything; `carry_out` does it, all or
nothing. Reading the same source again finds what it brought the first time.
"""

from daemon_app.intake.drafts import Draft, Remark
from daemon_app.intake.plan import Plan, Step, carry_out, plan

__all__ = ["Draft", "Plan", "Remark", "Step", "carry_out", "plan"]
