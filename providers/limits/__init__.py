"""How much may go through a provider row, over all workers together (PRV-9). See docs/limits.md.

`ask` before a call is set down, `go` right before it is made, `done` when it has ended or is not made after all,
`throttled` when the service has said that it was too much.
"""

from providers.limits.answers import Permit, Wait
from providers.limits.limiter import ask, done, forget, go, is_throttled, throttled
from providers.limits.usage import Usage, usage

__all__ = ["Permit", "Usage", "Wait", "ask", "done", "forget", "go", "is_throttled", "throttled", "usage"]
