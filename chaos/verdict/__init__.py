"""The verdict on a run: true, false or unknown, computed only from the files in its folder.

    facts, journal (read the folder) -> findings (per fault: convergence times, losses) -> judging (objectives)

Unknown is a verdict: a fault that was not injected, a failed heal or a load that sent nothing prove nothing.
"""

from chaos.verdict.judging import Verdict, judge
from chaos.verdict.words import Judgement

__all__ = ["Judgement", "Verdict", "judge"]
