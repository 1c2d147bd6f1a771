"""How rows reach a model: one row's life, the gate, the pool of endpoints."""

from batchcall.engine.endpoint import Endpoint
from batchcall.engine.feed import Feed
from batchcall.engine.gate import Gate
from batchcall.engine.metrics import watched_queue
from batchcall.engine.pool import Pool
from batchcall.engine.row_loop import LiveEngine
from batchcall.engine.steering import Steering

__all__ = ["Endpoint", "Feed", "Gate", "LiveEngine", "Pool", "Steering", "watched_queue"]
