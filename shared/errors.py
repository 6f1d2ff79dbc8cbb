"""Every error that Promptward raises on purpose.

PromptwardError
  ├─ InputError        what the user gave is wrong; the message names file, line or key, and the mend (exit code 2)
  ├─ RefusedError      a site refuses to answer; the reason stays at the site, a fixed code leaves
  └─ RunError          the run or check failed (exit code 1)
       └─ QuorumError  too few sites contributed to a round
"""


class PromptwardError(Exception):
    """Base of all errors below; its text is one sentence for the person at the keyboard."""

    exit_code = 1


class InputError(PromptwardError):
    """The input was wrong; nothing was run and nothing was written."""

    exit_code = 2


class RefusedError(PromptwardError):
    """A hospital does not answer this request; only a fixed code leaves the site."""


class RunError(PromptwardError):
    """The run or check failed."""


class QuorumError(RunError):
    """A round had fewer contributions than the task card's quorum."""
