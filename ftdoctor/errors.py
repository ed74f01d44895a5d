"""Every error that ftdoctor raises on purpose, under one root."""

from __future__ import annotations


class FtdoctorError(Exception):
    """The root: a message that says what, where, and what to do; `exit_status` is the command's."""

    exit_status = 2


class UnreadableRunError(FtdoctorError):
    """Nothing in the given place could be read as a fine-tuning run."""

    exit_status = 3


class SignatureError(FtdoctorError):
    """One or more signature files are wrong; holds every problem found, not only the first."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[SignatureError], tuple[tuple[str, ...]]]:
        return type(self), (self.problems,)
