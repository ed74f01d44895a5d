"""The file that `ftdoctor signatures new NAME` writes: a symptom and a cause that already load."""

from __future__ import annotations

import re

from ftdoctor.errors import FtdoctorError
from ftdoctor.model import Library

TEXT = """\
# Docs: docs/writing-signatures.md. Try it: ftdoctor signatures test {name}.yaml
symptom: {name}-message
title: The log holds the message of {name}
detect: log.matches
with: {{patterns: ['YOUR ERROR: device \\S+ is not reserved'], fatal: true}}
leak: 0.001          # how often a run without the fault shows it
source: "judgement: the message comes from our own launcher alone"
examples:            # one of each state at least
  - {{lines: ["YOUR ERROR: device gpu-3 is not reserved"], expect: present}}
  - {{lines: ["step 10 loss 1.2"], expect: absent}}
  - {{metrics: {{}}, expect: unobservable}}
---
cause: {name}
title: Say what is wrong in a few words
stage: infrastructure
severity: high       # critical, high, medium; low is advice only
prior: 0.02          # of all runs handed in, the share that has it
shows: {{{name}-message: 0.95}}
verdict: "Say it in one clause for the headline"
mechanism: |
  What happens, and why it shows like this.
fix: |
  Name the setting, the file or the command: `reserve --gpus 4` before the start.
references: ["https://wiki.example.org/{name}"]
examples:
  - {{symptoms: {{{name}-message: present}}, expect: first}}
  - {{symptoms: {{{name}-message: absent}}, expect: below-0.25}}
"""


def skeleton(name: str, library: Library) -> str:
    """Return the text of a new signature; FtdoctorError if the name is no id or taken."""
    if name in library.causes or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise FtdoctorError(
            f"`{name}` cannot be a new cause's id: it exists or is not lower-case words joined by "
            "`-`; give another"
        )
    return TEXT.format(name=name)
