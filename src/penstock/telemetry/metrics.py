"""Names every metric of Penstock, with its kind, labels and meaning: what is served is declared here and nowhere else.

engine, flow → counts → [metrics] → exposition → /metrics

Labels are bounded: tasks, tiers, models and causes, never an event or a key; a partition only in the one metric that tells why
each of them waits (one series per partition that does). Money is in US dollars, time in
seconds. What is a gauge here is read when it is asked for; nothing is computed for a metric that nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as it is served."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ("task",)
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, without infinity."""


_CALL_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0)
_AGE_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)
_COMMIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH_ITEMS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 200.0)

# --- what came in and what became of it ------------------------------------------------------------------------------
RECORDS_READ = Metric(
    "penstock_records_read_total", "counter", "Records read from the log, those of the retry topic too."
)
RESULTS = Metric("penstock_results_total", "counter", "Results committed, provisional ones too.")
DEAD_LETTERS = Metric("penstock_dead_letters_total", "counter", "Dead letters committed.", ("task", "reason"))
HAND_OVERS = Metric(
    "penstock_hand_overs_total", "counter", "Items committed to the task's retry topic.", ("task", "reason")
)
SKIPPED = Metric(
    "penstock_skipped_total", "counter", "Offsets passed without an ending: a hook said Skip, or erased in flight."
)
ERASED = Metric("penstock_erased_total", "counter", "Deletions committed: tombstones, and hooks that said Erase.")
LATE = Metric("penstock_late_total", "counter", "Outcomes that came after their partition was lost: never results.")
EVENT_AGE = Metric(
    "penstock_event_age_seconds",
    "histogram",
    "From an event's timestamp to the commit of its result or dead letter.",
    ("task",),
    _AGE_SECONDS,
)

DEADLINES_MISSED = Metric(
    "penstock_deadlines_missed_total",
    "counter",
    "Results and dead letters committed after the deadline of their event.",
)
HEADERS_IGNORED = Metric(
    "penstock_headers_ignored_total",
    "counter",
    "Headers of events that are meant for Penstock and mean nothing.",
    ("task", "header"),
)

# --- asking ----------------------------------------------------------------------------------------------------------
CALLS = Metric("penstock_calls_total", "counter", "Calls started.", ("task", "tier"))
CALLS_IN_FLIGHT = Metric(
    "penstock_calls_in_flight", "gauge", "Calls that were started and have not ended.", ("task", "tier")
)
CALL_SECONDS = Metric("penstock_call_seconds", "histogram", "Duration of calls.", ("task", "tier"), _CALL_SECONDS)
BATCH_ITEMS = Metric("penstock_batch_items", "histogram", "Items that shared one call.", ("task", "tier"), _BATCH_ITEMS)
OUTCOMES = Metric(
    "penstock_outcomes_total",
    "counter",
    "What attempts ended in, per item: answer, failure, again or deferred; for failure and again with the reason.",
    ("task", "tier", "kind", "reason"),
)
ANSWERS = Metric("penstock_answers_total", "counter", "Answers by how sure they were.", ("task", "tier", "confidence"))
ESCALATIONS = Metric(
    "penstock_escalations_total", "counter", "Items that this tier passed on to the next one.", ("task", "tier")
)
ITEMS_WAITING = Metric("penstock_items_waiting", "gauge", "Items that wait for a call of this tier.", ("task", "tier"))
TIER_HELD = Metric(
    "penstock_tier_held",
    "gauge",
    "1 while items wait and this tier makes no call, by cause.",
    ("task", "tier", "cause"),
)
TIER_WAIT_SECONDS = Metric(
    "penstock_tier_wait_seconds_total",
    "counter",
    "Time in which items waited and this tier made no call, by cause.",
    ("task", "tier", "cause"),
)

GUARD_ASKED = Metric(
    "penstock_guard_asked_total", "counter", "Answers compared with a second one of another batch.", ("task", "tier")
)
GUARD_FLIPPED = Metric(
    "penstock_guard_flipped_total", "counter", "Of them, those whose verdict was another.", ("task", "tier")
)
GUARD_CEILING = Metric(
    "penstock_guard_ceiling_items",
    "gauge",
    "Items that a call may hold before verdicts flip too often.",
    ("task", "tier"),
)

# --- in flight -------------------------------------------------------------------------------------------------------
ITEMS_IN_FLIGHT = Metric("penstock_items_in_flight", "gauge", "Offsets read and not resolved.")
OLDEST_IN_FLIGHT = Metric(
    "penstock_oldest_in_flight_seconds",
    "gauge",
    "Since the item was read that is in flight for longest; 0 where none is. A slow call shows here.",
)
BYTES_IN_FLIGHT = Metric("penstock_bytes_in_flight", "gauge", "Bytes of the records that are in flight.")
ITEMS_HELD = Metric("penstock_items_held", "gauge", "Answers that wait for an earlier event of their key (order=key).")
PARTITIONS_OWNED = Metric("penstock_partitions_owned", "gauge", "Partitions that this worker owns.")
PARTITIONS_PAUSED = Metric(
    "penstock_partitions_paused", "gauge", "Owned partitions that are not read now, by cause.", ("task", "cause")
)
PARTITION_WAITING = Metric(
    "penstock_partition_waiting_seconds",
    "gauge",
    "How long a partition has waited by now, by what keeps most of it waiting; missing while it does not wait.",
    ("task", "topic", "partition", "cause"),
)
LAG_RECORDS = Metric(
    "penstock_lag_records",
    "gauge",
    "Offsets of the owned partitions that are not resolved; the sum over workers is the task's.",
)
LAG_SECONDS = Metric(
    "penstock_lag_seconds", "gauge", "Age of the oldest unresolved event of the owned partitions; 0 where none waits."
)
LAG_SEEN = Metric("penstock_lag_seen_timestamp_seconds", "gauge", "When the lag was looked at last, as Unix time.")

# --- the account's limits --------------------------------------------------------------------------------------------
LIMIT = Metric(
    "penstock_limit_per_second",
    "gauge",
    "The account's limit as known now, from settings, then from replies; `kind` is requests, input_tokens or output_tokens.",
    ("family", "kind"),
)
LIMIT_LEVEL = Metric(
    "penstock_limit_level_ratio",
    "gauge",
    "How full replies show the account's bucket to be: 0 is empty. Missing while nothing fresh is known.",
    ("family", "kind"),
)
LIMIT_BASE = Metric(
    "penstock_limit_base_ratio",
    "gauge",
    "This worker's base share of the account: its part of the partitions times the task's part of all weights.",
    ("task", "family"),
)
LIMIT_GRANTED = Metric(
    "penstock_limit_granted_ratio",
    "gauge",
    "Part of the account's limit that this worker may use now: base share, borrowed, saved up by the account, less a slow start.",
    ("task", "family", "kind"),
)
LIMIT_BORROWED = Metric(
    "penstock_limit_borrowed_ratio",
    "gauge",
    "Part of the account's limit that is borrowed from idle neighbours; below 0: given up to others.",
    ("task", "family", "kind"),
)
LIMIT_USED = Metric(
    "penstock_limit_used_total",
    "counter",
    "Requests and tokens taken from the account's limit; its rate by the limit is the share in use.",
    ("task", "family", "kind"),
)
LIMIT_WAITS = Metric("penstock_limit_waits_total", "counter", "Times that calls began to wait.", ("family", "cause"))
LIMIT_REFUSALS = Metric(
    "penstock_limit_refusals_total",
    "counter",
    "Calls answered 429: `rate` for a limit, `ramp` for use that grew too fast.",
    ("family", "kind"),
)
LIMIT_CALLS = Metric(
    "penstock_limit_calls", "gauge", "Calls that may be in flight now, as found out from overload.", ("family",)
)
OUTAGE = Metric(
    "penstock_outage", "gauge", "1 while an outage of the family holds back all but trial calls.", ("family",)
)

# --- money -----------------------------------------------------------------------------------------------------------
TOKENS = Metric(
    "penstock_tokens_total",
    "counter",
    "Tokens billed; the classes input, cache_write, cache_read and output share none.",
    ("task", "model", "class"),
)
SPEND = Metric(
    "penstock_spend_usd_total", "counter", "Dollars billed for calls whose reply was read.", ("task", "model")
)
COMMITTED = Metric(
    "penstock_committed_usd_total", "counter", "Dollars on results, dead letters and hand-overs committed."
)
WASTE = Metric("penstock_waste_usd_total", "counter", "Dollars of the spend for answers that nobody will see.")
GUARD_SPEND = Metric("penstock_guard_usd_total", "counter", "Dollars of the waste for second answers, to compare.")
SPEND_RESERVED = Metric("penstock_spend_reserved_usd", "gauge", "The worst that the calls in flight may cost.", ())
SPEND_UNCONFIRMED = Metric(
    "penstock_spend_unconfirmed_usd", "gauge", "The worst that calls may have cost whose reply was never read.", ()
)
_CEILING = ("scope", "name", "period")
SPEND_CEILING = Metric(
    "penstock_spend_ceiling_usd",
    "gauge",
    "A ceiling of [spend] for all workers together; scope is all, task or model, period hour, day or month (UTC).",
    _CEILING,
)
SPEND_PERIOD = Metric(
    "penstock_spend_period_usd",
    "gauge",
    "Spent under a ceiling by all workers in the current period, unconfirmed calls at their worst included.",
    _CEILING,
)
SPEND_MARGIN = Metric(
    "penstock_spend_margin_usd",
    "gauge",
    "Claimed under a ceiling by workers alive and not spent: calls in flight at their worst, and room for the next.",
    _CEILING,
)
SPEND_RESERVE = Metric(
    "penstock_spend_reserve_usd",
    "gauge",
    "Claimed under a ceiling by workers that fell silent, and not known to be spent: held until the period ends.",
    _CEILING,
)
SPEND_WARNINGS = Metric(
    "penstock_spend_warnings_total",
    "counter",
    "Times that 0.5, 0.8 or 0.95 of a ceiling was passed in a period, as this worker saw it.",
    (*_CEILING, "part"),
)

# --- the log ---------------------------------------------------------------------------------------------------------
COMMIT_SECONDS = Metric(
    "penstock_commit_seconds", "histogram", "Duration of commits that were written.", ("task",), _COMMIT_SECONDS
)
COMMIT_RETRIES = Metric(
    "penstock_commit_retries_total", "counter", "Commits that the log did not take and that were tried again."
)
COMMITTED_AT = Metric("penstock_commit_timestamp_seconds", "gauge", "When something was committed last, as Unix time.")
LOG_ERRORS = Metric(
    "penstock_log_errors_total", "counter", "Errors of the log, by what was asked of it.", ("task", "operation")
)
REBALANCES = Metric(
    "penstock_rebalances_total",
    "counter",
    "Times that partitions came (assigned) or went (revoked, lost).",
    ("task", "change"),
)
PARTITIONS_LOST = Metric(
    "penstock_partitions_lost_total", "counter", "Partitions that were gone before they could be drained."
)
UNREAD_LOST = Metric(
    "penstock_unread_lost_records_total",
    "counter",
    "Offsets that retention deleted before they were read; the ranges stand in penstock-state.",
)

# --- sinks -----------------------------------------------------------------------------------------------------------
SINK_DELIVERED = Metric(
    "penstock_sink_delivered_total",
    "counter",
    "Deliveries that a sink took, by kind: result, letter or erasure.",
    ("sink", "kind"),
)
SINK_REFUSED = Metric(
    "penstock_sink_refused_total",
    "counter",
    "Deliveries that a sink will never take, by reason.",
    ("sink", "reason"),
)
SINK_LETTERS = Metric(
    "penstock_sink_dead_letters_total", "counter", "Dead letters of delivery (stage=deliver) committed.", ("sink",)
)
SINK_TROUBLES = Metric(
    "penstock_sink_troubles_total",
    "counter",
    "Batches that were not taken: away (weather) or fault.",
    ("sink", "kind"),
)
SINK_HELD = Metric(
    "penstock_sink_held",
    "gauge",
    "1 while a sink gets nothing, by cause: paused by a person, away, stopped.",
    ("sink", "cause"),
)
SINK_DELAY = Metric(
    "penstock_sink_delay_seconds",
    "histogram",
    "From the commit of a result or dead letter to its delivery.",
    ("sink",),
    (0.05, *_AGE_SECONDS),
)
SINK_BATCH_SECONDS = Metric(
    "penstock_sink_batch_seconds", "histogram", "Duration of batches that were taken.", ("sink",), _COMMIT_SECONDS
)
SINK_LAG_RECORDS = Metric(
    "penstock_sink_lag_records", "gauge", "Records of the owned partitions that are not delivered.", ("sink",)
)
SINK_LAG_SECONDS = Metric(
    "penstock_sink_lag_seconds", "gauge", "Age of the oldest of them; 0 where none waits.", ("sink",)
)
SINK_LOG_ERRORS = Metric(
    "penstock_sink_log_errors_total", "counter", "Errors of the log, by what was asked of it.", ("sink", "operation")
)

WEBHOOK_ATTEMPTS = Metric(
    "penstock_webhook_attempts_total",
    "counter",
    "Posts to a webhook's endpoint, by what came of them: delivered, retry, throttled, refused or gone.",
    ("sink", "kind"),
)
WEBHOOK_WAITING = Metric(
    "penstock_webhook_waiting", "gauge", "Messages in the outbox: they failed, and are tried again.", ("sink",)
)
WEBHOOK_OLDEST = Metric(
    "penstock_webhook_oldest_waiting_seconds", "gauge", "Since the oldest of them came; 0 where none waits.", ("sink",)
)
WEBHOOK_DISABLED = Metric(
    "penstock_webhook_disabled",
    "gauge",
    "1 while the endpoint is disabled: its receiver answered 410, and a person must enable it.",
    ("sink",),
)

# --- the process -----------------------------------------------------------------------------------------------------
READY = Metric("penstock_ready", "gauge", "1 where /readyz says yes.", ())
LOG = Metric(
    "penstock_log_info",
    "gauge",
    "1, labelled with the log in use and its delivery: exactly_once, or at_least_once where a crash may double results.",
    ("kind", "delivery"),
)
BUILD = Metric("penstock_build_info", "gauge", "1, labelled with the version.", ("version",))

ALL: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
