"""What Prometheus can scrape at /metrics. One word per thing, as everywhere else."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry(auto_describe=True)

CONNECTIONS = Gauge("sync_connections", "Open WebSocket connections.", registry=REGISTRY)
CLOSES = Counter("sync_closes", "Connections that the server closed, by close code.", ["code"], registry=REGISTRY)
FRAMES = Counter("sync_frames_received", "Frames from clients, by message type.", ["type"], registry=REGISTRY)
OPERATIONS = Counter("sync_operations", "Operations decided, by verdict.", ["verdict"], registry=REGISTRY)
DUPLICATES = Counter(
    "sync_duplicate_operations", "Resent operations answered from their stored verdict.", registry=REGISTRY
)
ROUND_SECONDS = Histogram(
    "sync_round_seconds",
    "Duration of a group commit, its fsync included.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
    registry=REGISTRY,
)
ROUND_OPERATIONS = Histogram(
    "sync_round_operations",
    "Operations in a group commit.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
    registry=REGISTRY,
)
ROUND_FAILURES = Counter("sync_round_failures", "Group commits that the database refused.", registry=REGISTRY)
QUEUE = Gauge("sync_queue_operations", "Operations waiting for a group commit.", registry=REGISTRY)
HEAD_SEQ = Gauge("sync_head_seq", "Position of the newest change of the log.", registry=REGISTRY)
DELIVERIES = Counter("sync_deliveries", "Frames with changes that were pushed to subscribers.", registry=REGISTRY)
LAGGING = Gauge(
    "sync_lagging_subscriptions", "Subscriptions that are fed from the log and not live.", registry=REGISTRY
)
REQUESTS = Counter("sync_http_requests", "HTTP requests, by route and status.", ["route", "status"], registry=REGISTRY)
LOOP_LAG_SECONDS = Gauge("sync_loop_lag_seconds", "How late the event loop woke for its last tick.", registry=REGISTRY)
LOOP_BLOCKED_SECONDS = Counter(
    "sync_loop_blocked_seconds",
    "Time in which the event loop was blocked, for more than a second each.",
    registry=REGISTRY,
)
GC_PAUSE_SECONDS = Histogram(
    "sync_gc_pause_seconds",
    "Pauses of the garbage collector.",
    buckets=(0.001, 0.01, 0.05, 0.1, 0.5, 1),
    registry=REGISTRY,
)
TRIMMED = Counter("sync_trimmed_changes", "Rows of the log that the trim job removed.", registry=REGISTRY)
