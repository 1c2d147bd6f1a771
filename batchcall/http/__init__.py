"""The only aiohttp client, and the threads in which long answers are read."""

from batchcall.http.beside import beside, beside_to_the_end, is_long
from batchcall.http.connections import MOST_RESTING
from batchcall.http.transport import Transport, open_transport

__all__ = ["MOST_RESTING", "Transport", "beside", "beside_to_the_end", "is_long", "open_transport"]
