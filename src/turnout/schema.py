"""The canonical tables as Arrow schemas, with units.

Readers write `TURNS`, the simulator writes `TRUTH` beside its log, evidence adds up to `LABELS`,
and a data set holds `SAMPLES`. Every file has all columns; optional ones may be null.
"""

from __future__ import annotations

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")
# What names a turn in every table that has turns.
TURN_KEYS = ("conversation_id", "turn_index")

TURNS = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn_index", pa.int32(), nullable=False),  # 1-based
        pa.field("user_message", pa.string(), nullable=False),
        pa.field("model", pa.string()),  # as logged; null where the log names none
        pa.field("timestamp", TIMESTAMP),
        pa.field("assistant_message", pa.string()),
        pa.field("response_type", pa.string()),  # success, cancelled, failed, …
        pa.field("prompt_tokens", pa.int64()),
        pa.field("completion_tokens", pa.int64()),
        pa.field("reasoning_tokens", pa.int64()),
        pa.field("cached_tokens", pa.int64()),
        pa.field("llm_calls", pa.int32()),
        pa.field("tool_counts", pa.string()),  # JSON object: tool name → calls
        pa.field("duration_ms", pa.int64()),
        pa.field("mode", pa.string()),
        pa.field("user_id", pa.string()),  # pseudonymised on read
        pa.field("feedback", pa.string()),
        pa.field("source", pa.string()),  # which file or system the row came from
        pa.field("cache_write_tokens", pa.int64()),  # of the prompt
        pa.field("requested_model", pa.string()),  # as the caller asked for it
        pa.field("chosen_by", pa.string()),  # one of CHOSEN_BY; null where the log does not say
        # What a router decided; null where none did.
        pa.field("decided_class", pa.string()),  # reasoning or fast
        pa.field("p_reasoning", pa.float64()),  # the score, in [0, 1]
        pa.field("population", pa.string()),  # what score and threshold are stated for
        pa.field("threshold", pa.float64()),  # in [0, 1]
        pa.field("policy", pa.string()),
        pa.field("propensity", pa.float64()),  # in (0, 1], of the class that served
        pa.field("router", pa.string()),  # digest of the router folder
        pa.field("segments", pa.string()),  # JSON object: the log's own column → value
        # The model whose answer to this message the person had made again; null where none.
        pa.field("regenerated_from", pa.string()),
    ]
)
# Columns that tables of version 0.1.0 lack.
LATER_TURN_COLUMNS = (
    "cache_write_tokens", "requested_model", "chosen_by", "decided_class", "p_reasoning",
    "population", "threshold", "policy", "propensity", "router",
    "segments", "regenerated_from",
)  # fmt: skip

# Who chose a turn's model. Only a person's choice is evidence of what the turn needs.
CHOSEN_BY = ("person", "router", "product", "unknown")

# What logs call a person's feedback on an answer, in lower case.
GOOD_FEEDBACK = ("positive", "good", "up", "thumbs_up", "like", "1", "accepted")
BAD_FEEDBACK = ("negative", "bad", "down", "thumbs_down", "dislike", "-1", "rejected")

# What logs call a turn that failed, in lower case; "cancelled" is a person's doing and no failure.
LIMITED = (
    "rate_limited", "rate_limit", "rate_limit_error", "rate_limit_exceeded", "ratelimited",
    "throttled", "overloaded", "overloaded_error", "quota_exceeded", "too_many_requests", "429",
    "529",
)  # fmt: skip
FAILED = (
    "failed", "failure", "error", "timeout", "timed_out", "server_error", "internal_error", "500",
    "502", "503", "504", *LIMITED,
)  # fmt: skip

REQUIRED_TURN_COLUMNS = ("conversation_id", "turn_index", "user_message", "model")

TRUTH = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn_index", pa.int32(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),  # 0 = reasoning, 1 = fast
        pa.field("difficulty", pa.float32(), nullable=False),  # in [0, 1]; ≥ 0.5 needs reasoning
        pa.field("kind", pa.string(), nullable=False),  # request, follow_up, small_talk, …
    ]
)

PREVIOUS_TURN = pa.struct(
    [
        pa.field("user_message", pa.string(), nullable=False),
        pa.field("assistant_message", pa.string()),
    ]
)

LABELS = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn_index", pa.int32(), nullable=False),
        pa.field("p_reasoning", pa.float32(), nullable=False),  # in [0, 1]; 1 = needs reasoning
        pa.field("confidence", pa.float32(), nullable=False),  # |2p − 1|, in [0, 1]
        pa.field("evidence", pa.list_(pa.string()), nullable=False),  # codes, "-" before fast ones
    ]
)

# What `turnout label` writes: a weight and a reason for each code, so that a person sees why.
EXPLAINED_LABELS = pa.schema(
    [
        *LABELS,
        pa.field("weights", pa.list_(pa.float32()), nullable=False),  # log-odds, > 0 for reasoning
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
    ]
)

# What `turnout judge` writes: also the turns for which no usable answer came.
JUDGED = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn_index", pa.int32(), nullable=False),
        pa.field("need", pa.int8()),  # 1 = fast does as well … 5 = reasoning helps; null if none
        pa.field("status", pa.string(), nullable=False),  # judged, or why there is no need
        pa.field("reason", pa.string(), nullable=False),  # the judge's words
        pa.field("model", pa.string(), nullable=False),
        pa.field("rubric", pa.string(), nullable=False),  # version
        pa.field("prompt_tokens", pa.int64()),
        pa.field("completion_tokens", pa.int64()),
        pa.field("cost_usd", pa.float64()),
    ]
)

SAMPLES = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("conversation_id", pa.string(), nullable=False),  # prompt id for outcome tables
        pa.field("turn_index", pa.int32(), nullable=False),
        pa.field("turn_count", pa.int32(), nullable=False),  # captured turns of the conversation
        pa.field("stratum", pa.string(), nullable=False),  # turn-count bucket, or outcome group
        pa.field("position", pa.string()),  # early, middle, late in its conversation
        pa.field("message", pa.string(), nullable=False),  # encoder segment A
        pa.field("context", pa.string(), nullable=False),  # encoder segment B, "" where none
        # Previous turns, newest first, as `formatter.stored_turn` gives them; null where not known.
        pa.field("previous", pa.list_(PREVIOUS_TURN)),
        pa.field("label", pa.int8()),  # 0 = reasoning, 1 = fast; null where neither was shown
        pa.field("target", pa.float32(), nullable=False),  # in [0, 1]; 1 = needs reasoning
        pa.field("weight", pa.float32(), nullable=False),  # >= 0, how much the row counts
        pa.field("evidence", pa.list_(pa.string()), nullable=False),  # codes
        pa.field("model", pa.string()),
        pa.field("user_id", pa.string()),  # as in the turns
        pa.field("group", pa.string()),  # benchmark or source, for outcome tables
        # What splits, folds and intervals hold together, for outcome tables.
        pa.field("cv_group", pa.string()),
    ]
)

# What a replay decides: a row for every turn and policy, one policy after another.
DECISIONS = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn_index", pa.int32(), nullable=False),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("router", pa.string(), nullable=False),  # architecture whose scores it reads
        pa.field("threshold", pa.float64(), nullable=False),  # in [0, 1]
        pa.field("population", pa.string(), nullable=False),  # what score and threshold are for
        pa.field("p_reasoning", pa.float32()),  # null where the policy read no score
        pa.field("model_class", pa.string(), nullable=False),  # reasoning or fast
        pa.field("model", pa.string(), nullable=False),  # the class's target
        pa.field("code", pa.string(), nullable=False),  # why: `policies.choice.ChoiceCode`
        pa.field("switched", pa.bool_(), nullable=False),  # leaves the class of the turn before
        pa.field("left_warm_cache", pa.bool_(), nullable=False),
        pa.field("cached_tokens", pa.int64(), nullable=False),  # of the prompt, read from a cache
        pa.field("usd", pa.float32(), nullable=False),  # what the turn is billed with
        pa.field("stay_usd", pa.float32(), nullable=False),  # expected, class before; first: fast
        pa.field("switch_usd", pa.float32(), nullable=False),  # expected, on the other one
        pa.field("switching_usd", pa.float32(), nullable=False),  # of it, for the cache not held
        pa.field("miss_usd", pa.float32()),  # price of a miss; null where none was weighed
    ]
)

# A sample of the log, stored in the data set folder; none of it is in its training rows.
TRAFFIC = pa.schema(
    [
        pa.field("conversation_id", pa.string(), nullable=False),
        pa.field("turn_index", pa.int32(), nullable=False),
        pa.field("turn_count", pa.int32(), nullable=False),  # captured turns of the conversation
        pa.field("message", pa.string(), nullable=False),  # encoder segment A
        pa.field("context", pa.string(), nullable=False),  # encoder segment B, "" where none
        pa.field("previous", pa.list_(PREVIOUS_TURN)),  # as in `SAMPLES`
        pa.field("weight", pa.float64(), nullable=False),  # > 0, so that rows are as the log is
    ]
)

SCORES_COLUMN = "p_reasoning"


def stored_text(text: str) -> str:
    """Text as the tables hold it: without NUL bytes, lone surrogates as question marks."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
