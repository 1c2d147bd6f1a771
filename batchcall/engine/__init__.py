"""How rows reach a model: one row's life, the gate, the pool of endpoints."""

from batchcall.engine.channel import Channel, Handlers
from batchcall.engine.endpoint import Endpoint, FarEndpoint
from batchcall.engine.far import FarSteering
from batchcall.engine.feed import Feed
from batchcall.engine.gate import Gate
from batchcall.engine.metrics import watched_queue
from batchcall.engine.pool import Pool
from batchcall.engine.row_loop import LiveEngine
from batchcall.engine.served import Served
from batchcall.engine.steering import OwnSteering, Steering

__all__ = [
    "Channel",
    "Endpoint",
    "FarEndpoint",
    "FarSteering",
    "Feed",
    "Gate",
    "Handlers",
    "LiveEngine",
    "OwnSteering",
    "Pool",
    "Served",
    "Steering",
    "watched_queue",
]
