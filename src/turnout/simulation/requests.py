"""Draws the requests of simulated users, and their wording.

A request is an operation on an object with a scope, terms that bind or release, and sometimes an
aside about another operation. It needs reasoning when judgement meets pressure:

    difficulty = σ(4 · (depth · pressure − 0.75))
    depth      = 1 where the operation is open-ended, 0.35 where it is mechanical
    pressure   = [wide scope] + binding terms − releasing terms

So an open-ended operation with nothing at stake is easy, and a mechanical one under much pressure
is hard. Single words say little: "is acceptable" and "is not acceptable" share theirs, and so do
"only here, not across the 12 services" and "not only here but in all 12 services".
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from turnout.simulation import vocabulary

HARD_DIFFICULTY = 0.5
_MECHANICAL_DEPTH = 0.35
_EVEN_PRESSURE = 0.75
_STEEPNESS = 4.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The content of a request.

    Attributes:
        domain: The field of work.
        open_ended: Whether the operation needs judgement.
        wide: Whether the scope is wide.
        binding: How many terms bind, 0 to 2.
        releasing: How many terms release, 0 or 1.
    """

    domain: vocabulary.Domain
    open_ended: bool
    wide: bool
    binding: int
    releasing: int

    @property
    def difficulty(self) -> float:
        """In [0, 1]; at `HARD_DIFFICULTY` or above the request needs reasoning."""
        depth = 1.0 if self.open_ended else _MECHANICAL_DEPTH
        pressure = self.wide + self.binding - self.releasing
        return 1.0 / (1.0 + math.exp(-_STEEPNESS * (depth * pressure - _EVEN_PRESSURE)))

    @property
    def hard(self) -> bool:
        """Whether it needs reasoning."""
        return self.difficulty >= HARD_DIFFICULTY


def draw_domain(rng: random.Random) -> vocabulary.Domain:
    """A field of work, drawn by its share."""
    domains = [domain for domain, _ in vocabulary.DOMAINS]
    return rng.choices(domains, [share for _, share in vocabulary.DOMAINS])[0]


def draw_plan(rng: random.Random, domain: vocabulary.Domain, *, hard: bool) -> Plan:
    """A plan that needs reasoning, or one that does not."""
    while True:
        plan = Plan(
            domain,
            open_ended=rng.random() < 0.6,
            wide=rng.random() < 0.5,
            binding=rng.choices((0, 1, 2), (0.45, 0.35, 0.2))[0],
            releasing=rng.choices((0, 1), (0.65, 0.35))[0],
        )
        if plan.hard == hard:
            return plan


def draw_object(rng: random.Random, domain: vocabulary.Domain) -> str:
    """A thing that people of that field work on."""
    return rng.choice(domain.objects)


def phrased(rng: random.Random, plan: Plan, subject: str) -> str:
    """The plan as a message about `subject`."""
    domain = plan.domain
    operations = domain.open_ended if plan.open_ended else domain.mechanical
    scope = rng.choice(vocabulary.WIDE_SCOPES if plan.wide else vocabulary.NARROW_SCOPES)
    stakes = rng.sample(domain.properties, plan.binding + plan.releasing)
    terms = [rng.choice(vocabulary.BINDING).format(p=p) for p in stakes[: plan.binding]]
    terms += [rng.choice(vocabulary.RELEASING).format(p=p) for p in stakes[plan.binding :]]
    rng.shuffle(terms)
    clauses = [_placed(rng, scope, domain), *terms]
    if rng.random() < 0.3:
        clauses = [*clauses[1:], clauses[0]]
    request = rng.choice(vocabulary.OPENERS) + rng.choice(operations)[0].format(o=subject)
    sentence = ", ".join([request, *(clause for clause in clauses if clause)])
    return _as_typed(rng, _with_paste(rng, _with_aside(rng, sentence, domain)))


def follow_up(rng: random.Random) -> str:
    """An acceptance of the pending request: it has no difficulty of its own."""
    return _as_typed(rng, rng.choice(vocabulary.ACCEPTANCES))


def transfer(rng: random.Random, domain: vocabulary.Domain) -> str:
    """The pending request, moved to another object."""
    return _as_typed(rng, rng.choice(vocabulary.TRANSFERS).format(o=draw_object(rng, domain)))


def small_talk(rng: random.Random) -> str:
    """A pleasantry, or a question that anybody can answer."""
    if rng.random() < 0.5:
        return rng.choice(vocabulary.PLEASANTRIES)
    return _as_typed(rng, rng.choice(vocabulary.QUESTIONS).format(t=rng.choice(vocabulary.TERMS)))


def answer(rng: random.Random, subject: str) -> str:
    """The assistant's answer, which does not depend on the difficulty."""
    text = rng.choice(vocabulary.ANSWERS).format(o=subject)
    return text[0].upper() + text[1:]


def _placed(rng: random.Random, scope: str, domain: vocabulary.Domain) -> str:
    singular, plural = rng.choice(domain.places)
    return scope.format(n=rng.randint(3, 60), s=singular, ps=plural)


def _with_aside(rng: random.Random, sentence: str, domain: vocabulary.Domain) -> str:
    if rng.random() >= 0.4:
        return f"{sentence}."
    gerund = rng.choice(domain.open_ended + domain.mechanical)[1].format(o=draw_object(rng, domain))
    scope = rng.choice((*vocabulary.WIDE_SCOPES, *vocabulary.NARROW_SCOPES))
    other = f"{gerund} {_placed(rng, scope, domain)}".strip()
    if rng.random() < 0.6:
        aside = rng.choice(vocabulary.ASIDES_BEFORE).format(g=other)
        return f"{aside} {sentence[0].upper()}{sentence[1:]}."
    return f"{sentence}. " + rng.choice(vocabulary.ASIDES_AFTER).format(g=other)


def _with_paste(rng: random.Random, text: str) -> str:
    if rng.random() >= 0.2:
        return text
    lines = (rng.choice(vocabulary.PASTED_LINES) for _ in range(rng.randint(2, 14)))
    filled = [_numbered(rng, line) for line in lines]
    pasted = "\n".join(filled)
    return f"{text}\n\n{pasted}" if rng.random() < 0.5 else f"{pasted}\n\n{text}"


def _numbered(rng: random.Random, line: str) -> str:
    while "{n}" in line:
        line = line.replace("{n}", str(rng.randint(1, 999)), 1)
    return line


def _as_typed(rng: random.Random, text: str) -> str:
    """The text as people type: often without capitals, sometimes with two letters swapped."""
    if rng.random() < 0.3:
        text = text.lower()
    if rng.random() < 0.12 and len(text) > 12:
        i = rng.randrange(1, len(text) - 2)
        text = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    return text
