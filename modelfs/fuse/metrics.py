"""Metrics of one mount for Prometheus, over HTTP: ``mount --metrics HOST:PORT``.

Nothing is counted for it: when somebody scrapes, the facts of `account` are asked for on the event loop, which takes
well under a millisecond, and everything else happens in a thread of the server's own, one request after the other.
Names follow https://prometheus.io/docs/practices/naming/: base units, ``_total`` for counters. The text is made by
prometheus_client (extra ``metrics``).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import trio

import modelfs
from modelfs import limits
from modelfs.errors import ExtraMissingError, ModelfsError, UsageError
from modelfs.quantities import parse_address
from modelfs.store.meter import BOUNDS

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client.core import Metric

log = logging.getLogger(__name__)

Facts = dict[str, Any]

# (name, key of the facts, help)
_COUNTERS: Final = (
    ("read_requests", "reads", "Read requests of the kernel."),
    ("read_bytes", "read_bytes", "Bytes handed to readers."),
    ("write_requests", "writes", "Write requests of the kernel."),
    ("written_bytes", "written_bytes", "Bytes taken from writers."),
    ("fetched_chunks", "fetched_chunks", "Chunks fetched from the store for readers."),
    ("fetched_bytes", "fetched_bytes", "Plain bytes of them."),
    ("cache_hits", "hits", "Chunks that were on this machine when an open file was first read in them."),
    ("cache_hit_bytes", "hit_bytes", "Bytes of them."),
    ("cache_misses", "misses", "Chunks that were fetched for that."),
    ("cache_miss_bytes", "miss_bytes", "Bytes of them."),
    ("store_received_bytes", "store_received_bytes", "Bytes of objects received from the store."),
    ("store_sent_bytes", "store_sent_bytes", "Bytes of objects sent to the store."),
    ("store_retries", "store_retries", "Attempts that were made again."),
    ("errors", "errors", "Requests of the kernel that failed because of the store, the disk or a defect."),
)
_GAUGES: Final = (
    ("start_time_seconds", "since", "When the mount began, as Unix time."),
    ("head_commit_number", "commit", "Number of the commit that the mount shows."),
    ("head_commit_timestamp_seconds", "commit_time", "When that commit was made, as Unix time."),
    ("pending_files", "pending_files", "Files with changes that are not in the store."),
    ("pending_bytes", "pending_bytes", "Bytes of these files."),
    ("files_being_written", "being_written", "Those of them that are open for writing."),
    ("uploads_in_flight", "uploading", "Files being cut and uploaded."),
    ("fetches_in_flight", "fetching", "Chunks on their way from the store or being verified."),
    ("open_files", "open_files", "Open file handles."),
)
_CACHE_GAUGES: Final = (
    ("cache_bytes", "bytes", "Bytes of chunks in the cache."),
    ("cache_limit_bytes", "limit", "Bytes that the cache may hold."),
    ("cache_pinned_bytes", "pinned", "Bytes that pins keep room for."),
    ("cache_files", "files", "Files that the cache knows."),
    ("cache_chunks", "chunks", "Chunks in the cache."),
)
_CACHE_COUNTERS: Final = (
    ("cache_evicted_bytes", "evicted_bytes", "Bytes that this mount evicted from the cache."),
    ("cache_refused_chunks", "refused", "Chunks for which the cache had no room."),
    ("cache_damaged_chunks", "damaged", "Cached chunks whose hash was wrong; they were fetched again."),
)


class MetricsServer:
    """Listens from the beginning, so that a port in use is said before anything is mounted; answers once it is told
    whom to ask. UsageError, ExtraMissingError."""

    def __init__(self, address: str) -> None:
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
        except ImportError as error:
            raise ExtraMissingError("--metrics needs prometheus_client: pip install 'modelfs[metrics]'") from error
        self._facts: Callable[[], Facts] | None = None
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(self)
        self._app: WSGIApplication = make_wsgi_app(registry, disable_compression=True)
        host, port = parse_address("--metrics", address)
        try:
            self._server = WSGIServer((host, port), _Handler)
        except OSError as error:
            raise UsageError(f"--metrics {address}: cannot listen there: {error.strerror or error}") from error
        self._server.set_app(self._answer)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    def serve(self, facts: Callable[[], Any]) -> None:
        """Answer from now on; ``facts`` is asked on the event loop, in which this is called."""
        token = trio.lowlevel.current_trio_token()

        def ask() -> Facts:
            found: Facts = trio.from_thread.run(facts, trio_token=token)
            return found

        self._facts = ask

    def close(self) -> None:
        """End. Not to be called on the event loop: a request may be waiting for it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics" or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"metrics are at /metrics\n"]
        try:
            return self._app(environ, start_response)
        except (ModelfsError, RuntimeError, trio.Cancelled) as error:
            log.debug("metrics cannot be told: %r", error)
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"the mount is beginning or ending\n"]

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client, which calls it in the server's thread at each scrape."""
        if self._facts is None:
            raise RuntimeError("the mount does not answer yet")
        return families(self._facts())


def families(facts: Facts) -> Iterator[Metric]:
    """The metrics that the facts of a mount amount to."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    def gauge(name: str, text: str, value: float) -> Metric:
        return GaugeMetricFamily(f"modelfs_{name}", text, value=value)

    names = ["version", "store", "branch", "mountpoint", "read_only"]
    info = GaugeMetricFamily("modelfs_mount_info", "Which mount this is; always 1.", labels=names)
    mode = "true" if facts["read_only"] else "false"
    info.add_metric([modelfs.__version__, facts["store"], facts["branch"], facts["mountpoint"], mode], 1)
    yield info
    for name, key, text in _COUNTERS:
        yield CounterMetricFamily(f"modelfs_{name}", text, value=facts[key])
    for name, key, text in _GAUGES:
        yield gauge(name, text, facts[key])
    oldest = facts["pending_oldest"] or 0
    yield gauge("pending_oldest_seconds", "Since the pending file that waits longest was changed last.", oldest)
    yield gauge("store_away", "1 while the store does not answer.", 0 if facts["away"] is None else 1)
    if facts["asked"] is not None:
        text = "When the store last said what the newest commit is, as Unix time."
        yield gauge("store_asked_timestamp_seconds", text, time.time() - facts["asked"])
    if (cache := facts["cache"]) is not None:
        for name, key, text in _CACHE_GAUGES:
            yield gauge(name, text, cache[key])
        for name, key, text in _CACHE_COUNTERS:
            yield CounterMetricFamily(f"modelfs_{name}", text, value=cache[key])
    requests = CounterMetricFamily(
        "modelfs_store_requests", "Operations on the store, all attempts of one as one.", labels=["operation", "result"]
    )
    times = HistogramMetricFamily(
        "modelfs_store_request_duration_seconds", "How long they took, with their attempts.", labels=["operation"]
    )
    for operation, asked in sorted(facts["store_requests"].items()):
        for result, count in sorted(asked["results"].items()):
            requests.add_metric([operation, result], count)
        buckets, so_far = [], 0
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], asked["counts"], strict=True):
            so_far += count
            buckets.append((bound, so_far))
        times.add_metric([operation], buckets, sum_value=asked["seconds"])
    yield requests
    yield times


class _Handler(WSGIRequestHandler):
    timeout = limits.METRICS_TIMEOUT  # one request after the other: who says nothing must not keep the others waiting

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)
