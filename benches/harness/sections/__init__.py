"""The sections, by name: each a function of (tools, quick) that returns a `Section`."""

from . import bulk, cold, distance, latency, memory, peers, truth

SECTIONS = {
    "latency": latency.measure,
    "bulk": bulk.measure,
    "memory": memory.measure,
    "distance": distance.measure,
    "peers": peers.measure,
    "cold": cold.measure,
    "truth": truth.measure,
}
