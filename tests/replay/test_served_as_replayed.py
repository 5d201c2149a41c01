"""A gateway with the settings that a replay hands over decides as the replay did, turn by turn."""

import datetime as dt
import random
from dataclasses import replace
from itertools import groupby

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.tables import NOON, turn, write_turns
from tests.tiny_router import EASY, HARD, write_router
from turnout.records import Turn
from turnout.replay.results import Recommendation
from turnout.replay.router_table import router_table
from turnout.replay.stage import replay
from turnout.routing import Priors
from turnout.routing.policies import CachedPrompt, PricedPolicy, TurnsLeft
from turnout.routing.router import session_after
from turnout.settings import load_settings

PRIORS = Priors(balanced=0.5, log=0.25)
MISSED = 0.1
BUDGET = 0.2  # most that switching may take of a conversation's spend
# The caches of the two models last 300 and 1,800 seconds.
MODELS = """
[upstreams.local]
url = "http://127.0.0.1:1/v1"

[targets.reasoning]
upstream = "local"
model = "claude-opus-4-5"

[targets.fast]
upstream = "local"
model = "gpt-5.6-mini"

[[catalog.price]]
pattern = "gpt-5-6-mini"
input_usd_per_mtok = 2.0
cached_input_usd_per_mtok = 0.2
output_usd_per_mtok = 9.0
"""


def simulated(path):
    """A log by chance: pauses that no, one or both caches outlive, long and short prompts."""
    draw, rows = random.Random(5), []
    for number in range(90):
        now, prompt = NOON, draw.choice([300, 6_000, 30_000])
        for index in range(1, draw.choice([1, 2, 3, 5, 8]) + 1):
            # Of several words the tiny router makes scores of many values.
            words = draw.choices([*HARD, *EASY, "it"], [1] * len(HARD) + [3] * len(EASY) + [9], k=5)
            model = draw.choice(["claude-opus-4-5", "gpt-5.6-mini"])
            answer = draw.randint(800, 6_000) if "opus" in model else draw.randint(20, 600)
            tokens = {"prompt_tokens": prompt, "completion_tokens": answer}
            more = {"timestamp": now, "assistant_message": "done", **tokens}
            rows.append(turn(f"c{number:03}", index, " ".join(words), model, **more))
            now += dt.timedelta(seconds=draw.choice([20, 299, 300, 900, 1_800, 9_000]))
            prompt += draw.choice([100, 4_000])
    return write_turns(path, rows)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """The report of a replay, its folder, the routers by architecture, and the turns."""
    folder = tmp_path_factory.mktemp("replayed")
    (folder / "models.toml").write_text(MODELS)
    settings = load_settings(folder / "models.toml")
    routers = {
        name: write_router(folder / name, name, priors=PRIORS)
        for name in ("session", "conversation")
    }
    turns = simulated(folder / "turns.parquet")
    report = replay(
        list(routers.values()),
        turns,
        folder / "report",
        catalog=settings.merged_catalog(),
        targets=settings.targets_of(None, None),
        max_miss=MISSED,
        priced=PricedPolicy(max_switching_share=BUDGET),
    )
    return report, folder, routers, pq.read_table(turns).to_pylist()


def settings_of(replayed, policy, population):
    """The settings that a replay hands over for a policy, read as a gateway reads them."""
    report, folder, _, _ = replayed
    row = next(row for row in report.comparison.level(MISSED).rows if row.name == policy)
    recommended = replace(report.comparison.recommendation, policy=policy, threshold=row.threshold)
    targets = load_settings(folder / "models.toml").targets_of(None, None)
    targets = {
        name: replace(target, output_tokens=report.targets[name].output_tokens)
        for name, target in targets.items()
    }
    if population != report.population:  # as a user would convert it
        threshold = PRIORS.converted(row.threshold, of=report.population, to=population)
        recommended = replace(recommended, threshold=threshold - 1e-5)
    priced = PricedPolicy(turns_left=TurnsLeft(tuple(report.turns_left)))
    path = folder / f"{policy}-{population}.toml"
    table = router_table(recommended, population, priced, targets)
    path.write_text(f"{table}max_switching_share = {BUDGET}\n{MODELS}")
    return load_settings(path)


def decisions(router, conversation, billed_usd):
    """Every decision of a conversation, with sessions as the gateway has them."""
    session, turns = None, []
    for row, usd in zip(conversation, billed_usd, strict=True):
        turns.append(Turn(row["user_message"], None))
        now_s = row["timestamp"].timestamp()
        decision = router.choose(
            router.scored(turns), session, now_s=now_s, prompt_tokens=row["prompt_tokens"]
        )
        yield decision
        turns[-1] = Turn(row["user_message"], row["assistant_message"])
        cache = CachedPrompt(
            row["prompt_tokens"], now_s, router.cache_lifetime_s(decision.model_class)
        )
        switching_usd = decision.switching_usd if decision.switched else 0.0
        session = session_after(decision, session, "c", now_s).with_served(
            decision.model_class, cache, cost_usd=usd, switching_usd=switching_usd
        )


@pytest.mark.slow
@pytest.mark.parametrize("population", ["log", "balanced"])
@pytest.mark.parametrize("policy", ["session", "boundary", "conversation", "priced"])
def test_settings_of_a_replay_give_its_decisions(replayed, policy, population):
    _, folder, routers, turns = replayed
    router = settings_of(replayed, policy, population).open_router(
        routers["session" if policy == "session" else "conversation"]
    )
    table = pq.read_table(folder / "report.decisions.parquet")
    expected = table.filter(pc.equal(table["policy"], policy)).to_pylist()
    served = []
    usd = iter([row["usd"] for row in expected])
    for _, group in groupby(turns, key=lambda row: row["conversation_id"]):
        conversation = list(group)
        served += decisions(router, conversation, [next(usd) for _ in conversation])
    assert [d.model_class for d in served] == [row["model_class"] for row in expected]
    if population != "log":
        return  # a threshold that was converted is near scores that equal the one of the log
    assert [d.code for d in served] == [row["code"] for row in expected]
    assert [d.p_reasoning for d in served] == [row["p_reasoning"] for row in expected]
    for field in ("stay_usd", "switch_usd", "switching_usd") if policy == "priced" else ():
        of_replay = [row[field] for row in expected]
        assert [getattr(d, field) for d in served] == pytest.approx(of_replay, rel=1e-5)


@pytest.mark.slow
def test_the_table_that_is_handed_over_serves_what_the_page_recommends(replayed):
    report, folder, routers, _ = replayed
    text = (folder / "report" / "router.toml").read_text()
    path = folder / "recommended.toml"
    path.write_text(f"{text}\n{MODELS}")
    advice = report.comparison.recommendation
    router = load_settings(path).open_router(routers[advice.router])
    assert (router.policy.name, router.threshold) == (advice.policy, advice.threshold)


@pytest.mark.parametrize("threshold", [0.1, 1 / 3, 0.24999998509883880, 4e-7, 1.0])
def test_a_threshold_is_handed_over_unrounded(tmp_path, threshold):
    advice = Recommendation("route", "conversation", "conversation", threshold, 0.1, [])
    path = tmp_path / "router.toml"
    path.write_text(router_table(advice, "log", PricedPolicy(), {}))
    assert load_settings(path).router.threshold == threshold


def test_priced_multiplies_probabilities_of_the_log_whichever_population_is_shown(tmp_path):
    folder = write_router(tmp_path / "router", "conversation", priors=PRIORS)
    message, probabilities = "prove it hello", set()
    for population in ("log", "balanced"):
        path = tmp_path / f"{population}.toml"
        table = f'[router]\npolicy = "priced"\npopulation = "{population}"\nmiss_usd = 0.1\n'
        path.write_text(table + MODELS)
        router = load_settings(path).open_router(folder)
        score = router.decide(message).p_reasoning
        probabilities.add(round(router.policy.probability(score), 6))
    assert len(probabilities) == 1
