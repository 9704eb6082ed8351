"""What a run says: true, false or unknown, from the files it left and nothing else.

    facts (read the folder) -> findings (per fault: who noticed when, what was lost) -> judging (each objective)

Unknown is a verdict: a fault that was not injected, a heal that failed, a load that sent nothing prove nothing.
"""

from chaos.verdict.judging import Judgement, Verdict, judge

__all__ = ["Judgement", "Verdict", "judge"]
