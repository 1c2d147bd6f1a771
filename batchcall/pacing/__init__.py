"""How many requests, how fast and until when: all decisions about pace, retries and budgets. Pure."""

from batchcall.pacing.breaker import is_of_endpoint
from batchcall.pacing.budget import NO_MORE_DOUBTS, Budget, may_doubt
from batchcall.pacing.estimate import TokenEstimate
from batchcall.pacing.health import Health, Verdict, as_utc
from batchcall.pacing.pacer import MOST_AUTO, Orders, Pacer
from batchcall.pacing.price import cost_of
from batchcall.pacing.proxy_cutoffs import ProxyCutoffs
from batchcall.pacing.queue import read_queue
from batchcall.pacing.retry import MOST_AMBIGUOUS, RetryPolicy

__all__ = [
    "MOST_AMBIGUOUS",
    "MOST_AUTO",
    "NO_MORE_DOUBTS",
    "Budget",
    "Health",
    "Orders",
    "Pacer",
    "ProxyCutoffs",
    "RetryPolicy",
    "TokenEstimate",
    "Verdict",
    "as_utc",
    "cost_of",
    "is_of_endpoint",
    "may_doubt",
    "read_queue",
]
