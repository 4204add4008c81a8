"""The sections, by name: each a function of (tools, quick) that returns a `Section`."""

from . import bulk, cold, distance, journal, latency, memory, peers, truth

SECTIONS = {
    "latency": latency.measure,
    "bulk": bulk.measure,
    "journal": journal.measure,
    "memory": memory.measure,
    "distance": distance.measure,
    "peers": peers.measure,
    "cold": cold.measure,
    "truth": truth.measure,
}
