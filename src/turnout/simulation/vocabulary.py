"""The words of the simulator, by field of work.

Every phrase occurs with both labels. What a message needs depends on how phrases are combined (see
`requests`), not on which of them occur.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Domain:
    """The vocabulary of one field of work.

    Attributes:
        name: For the truth table.
        objects: Things to work on.
        places: Where a thing occurs, singular and plural.
        mechanical: Operations done by following rules: imperative and gerund, `{o}` the object.
        open_ended: Operations that need judgement, in the same form.
        properties: What may be at stake, as a gerund.
    """

    name: str
    objects: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    mechanical: tuple[tuple[str, str], ...]
    open_ended: tuple[tuple[str, str], ...]
    properties: tuple[str, ...]


_CODE = Domain(
    "code",
    (
        "the login handler", "the billing queue", "the retry loop", "the session cache",
        "the CSV importer", "the search index", "the payment webhook", "the rate limiter",
        "the job scheduler", "the config loader", "the image resizer", "the audit log",
        "the feature flags", "the invoice parser", "the websocket client", "the migration script",
        "the error handler", "the user model", "the permission check", "the export endpoint",
        "the date helper", "the upload form", "the sync worker", "the template engine",
        "the mail sender", "the currency converter", "the metrics collector", "the login page",
    ),
    (("file", "files"), ("service", "services"), ("module", "modules"), ("endpoint", "endpoints"),
     ("repository", "repositories"), ("test", "tests"), ("plugin", "plugins")),
    (
        ("rename {o}", "renaming {o}"), ("add a comment to {o}", "adding a comment to {o}"),
        ("format {o}", "formatting {o}"), ("fix the typo in {o}", "fixing the typo in {o}"),
        ("move {o} to its own file", "moving {o} to its own file"),
        ("add type hints to {o}", "adding type hints to {o}"),
        ("bump the version of {o}", "bumping the version of {o}"),
        ("print what {o} returns", "printing what {o} returns"),
        ("replace the old name of {o}", "replacing the old name of {o}"),
        ("delete the dead code in {o}", "deleting the dead code in {o}"),
    ),
    (
        ("redesign {o}", "redesigning {o}"),
        ("work out why {o} sometimes hangs", "working out why {o} sometimes hangs"),
        ("split {o} in two", "splitting {o} in two"), ("make {o} faster", "making {o} faster"),
        ("find the race in {o}", "finding the race in {o}"),
        ("change how {o} stores its state", "changing how {o} stores its state"),
        ("replace {o} with something simpler", "replacing {o} with something simpler"),
        ("make {o} safe to run twice", "making {o} safe to run twice"),
        ("decide where {o} should live", "deciding where {o} should live"),
        ("undo the damage that {o} did", "undoing the damage that {o} did"),
    ),
    (
        "losing a request", "breaking old callers", "holding a lock for long",
        "changing the results", "using more memory", "touching the database schema",
        "restarting the service", "dropping a message", "a second of downtime",
        "adding a dependency", "a slower start", "logging personal data",
    ),
)  # fmt: skip

_DATA = Domain(
    "data",
    (
        "the sales table", "the churn report", "the sensor readings", "the customer segments",
        "the weekly dashboard", "the survey answers", "the click stream", "the price history",
        "the stock forecast", "the address list", "the refund figures", "the visit counts",
        "the delivery times", "the energy bills", "the A/B test", "the loan book",
    ),
    (("column", "columns"), ("region", "regions"), ("year", "years"), ("source", "sources"),
     ("store", "stores"), ("product line", "product lines")),
    (
        ("sort {o} by date", "sorting {o} by date"),
        ("give me the average of {o}", "giving the average of {o}"),
        ("convert {o} to JSON", "converting {o} to JSON"),
        ("round the numbers in {o}", "rounding the numbers in {o}"),
        ("rename the columns of {o}", "renaming the columns of {o}"),
        ("count the rows of {o}", "counting the rows of {o}"),
        ("plot {o} as a line", "plotting {o} as a line"),
        ("remove the empty rows from {o}", "removing the empty rows from {o}"),
    ),
    (
        ("explain the drop in {o}", "explaining the drop in {o}"),
        ("find out what drives {o}", "finding out what drives {o}"),
        ("reconcile {o} with the ledger", "reconciling {o} with the ledger"),
        ("fill the gaps in {o}", "filling the gaps in {o}"),
        ("tell cause from chance in {o}", "telling cause from chance in {o}"),
        ("build a forecast from {o}", "building a forecast from {o}"),
        ("find who was counted twice in {o}", "finding who was counted twice in {o}"),
        ("design a test that settles {o}", "designing a test that settles {o}"),
    ),
    (
        "counting anyone twice", "leaking names", "assuming a normal distribution",
        "using figures from the future", "dropping outliers", "a margin above two percent",
        "mixing currencies", "guessing missing values", "losing the small groups",
    ),
)  # fmt: skip

_MATHS = Domain(
    "maths",
    (
        "the sum of two odd squares", "this recurrence", "the 3 by 3 system", "the area under it",
        "the chance of a tie", "this inequality", "the number of paths", "the remainder mod 7",
        "the expected waiting time", "this integral", "the smallest such n", "the matching",
        "the shortest tour", "the polynomial", "the two dice", "the sequence",
    ),
    (("case", "cases"), ("value", "values"), ("n", "values of n"), ("dimension", "dimensions"),
     ("step", "steps"), ("starting point", "starting points")),
    (
        ("plug 4 into {o}", "plugging 4 into {o}"), ("write {o} in LaTeX", "writing {o} in LaTeX"),
        ("round {o} to two digits", "rounding {o} to two digits"),
        ("state the formula for {o}", "stating the formula for {o}"),
        ("look up the name of {o}", "looking up the name of {o}"),
        ("simplify the fraction in {o}", "simplifying the fraction in {o}"),
        ("copy {o} in plain words", "copying {o} in plain words"),
        ("check the units of {o}", "checking the units of {o}"),
    ),
    (
        ("prove a bound for {o}", "proving a bound for {o}"),
        ("find all solutions of {o}", "finding all solutions of {o}"),
        ("decide whether {o} converges", "deciding whether {o} converges"),
        ("find a counterexample to {o}", "finding a counterexample to {o}"),
        ("derive {o} from scratch", "deriving {o} from scratch"),
        ("find the best strategy for {o}", "finding the best strategy for {o}"),
        ("generalise {o}", "generalising {o}"), ("count {o} exactly", "counting {o} exactly"),
    ),
    (
        "using calculus", "a computer search", "assuming independence", "an approximation",
        "leaving out n = 1", "induction", "dividing by zero", "skipping steps",
    ),
)  # fmt: skip

_WRITING = Domain(
    "writing",
    (
        "the cover letter", "the press release", "the opening chapter", "the apology mail",
        "the grant proposal", "the wedding speech", "the product page", "the meeting notes",
        "the complaint", "the job advert", "the abstract", "the newsletter", "the manual",
        "the contract summary", "the obituary", "the poem",
    ),
    (("paragraph", "paragraphs"), ("chapter", "chapters"), ("reader", "kinds of reader"),
     ("version", "versions"), ("section", "sections"), ("country", "countries")),
    (
        ("fix the spelling in {o}", "fixing the spelling in {o}"),
        ("shorten {o} by a line", "shortening {o} by a line"),
        ("translate {o} into German", "translating {o} into German"),
        ("put {o} in the past tense", "putting {o} in the past tense"),
        ("number the headings of {o}", "numbering the headings of {o}"),
        ("change the name in {o}", "changing the name in {o}"),
        ("make a list out of {o}", "making a list out of {o}"),
        ("give {o} a title", "giving {o} a title"),
    ),
    (
        ("restructure {o}", "restructuring {o}"),
        ("make {o} convince a sceptic", "making {o} convince a sceptic"),
        ("find what {o} contradicts", "finding what {o} contradicts"),
        ("merge {o} with last year's", "merging {o} with last year's"),
        ("rewrite {o} from the other side's view", "rewriting {o} from the other side's view"),
        ("plan how {o} builds up", "planning how {o} builds up"),
        ("weigh every claim in {o}", "weighing every claim in {o}"),
        ("find the tone that {o} needs", "finding the tone that {o} needs"),
    ),
    (
        "admitting fault", "losing the humour", "going over one page", "naming anyone",
        "sounding cold", "promising a date", "legal jargon", "changing the facts",
    ),
)  # fmt: skip

_EVERYDAY = Domain(
    "everyday",
    (
        "the train trip", "the birthday dinner", "the shopping list", "the rent increase",
        "the garden plan", "the move to Lyon", "the school timetable", "the tax form",
        "the running plan", "the used car", "the family budget", "the visa papers",
        "the broken boiler", "the summer camp", "the flat share", "the dog sitter",
    ),
    (("day", "days"), ("guest", "guests"), ("month", "months"), ("city", "cities"),
     ("child", "children"), ("room", "rooms")),
    (
        ("write down the date of {o}", "writing down the date of {o}"),
        ("tell me what {o} means in French", "saying what {o} means in French"),
        ("set a reminder for {o}", "setting a reminder for {o}"),
        ("list what belongs to {o}", "listing what belongs to {o}"),
        ("add milk to {o}", "adding milk to {o}"), ("spell out {o}", "spelling out {o}"),
        ("give me an emoji for {o}", "giving an emoji for {o}"),
        ("sum up {o} in a sentence", "summing up {o} in a sentence"),
    ),
    (
        ("plan {o}", "planning {o}"), ("find the fairest way to settle {o}", "settling {o} fairly"),
        ("decide whether {o} is worth it", "deciding whether {o} is worth it"),
        ("compare the offers for {o}", "comparing the offers for {o}"),
        ("fit {o} around two jobs", "fitting {o} around two jobs"),
        ("get {o} done for half the price", "getting {o} done for half the price"),
        ("argue my case about {o}", "arguing my case about {o}"),
        ("find what could go wrong with {o}", "finding what could go wrong with {o}"),
    ),
    (
        "missing the last train", "spending over 300 euros", "upsetting anyone",
        "driving at night", "taking a day off", "changing the date", "signing anything",
        "asking my boss",
    ),
)  # fmt: skip

# Each field of work with its share.
DOMAINS = ((_CODE, 0.45), (_DATA, 0.16), (_MATHS, 0.12), (_WRITING, 0.14), (_EVERYDAY, 0.13))

# `{n}` a number, `{s}` a place, `{ps}` places.
WIDE_SCOPES = (
    "across all {n} {ps}", "for every {s} that depends on it", "in each of the {n} {ps}",
    "over {n} {ps} at once", "so that all {n} {ps} agree", "not only here but in all {n} {ps}",
    "for more than one {s}, {n} in fact", "and for the other {n} {ps} as well",
)  # fmt: skip
NARROW_SCOPES = (
    "in this one {s}", "only here, not across the {n} {ps}", "for a single {s}",
    "and leave the other {n} {ps} as they are", "in the one {s} that depends on it",
    "for this {s}, not for all {n}", "in one {s} out of {n}", "",
)  # fmt: skip
BINDING = (
    "without {p}", "and {p} is not acceptable", "but there must be no risk of {p}",
    "while ruling out {p}", "and I can't live with {p}", "unless it means {p}, which it must not",
    "and avoid {p} at all cost", "{p} is out of the question",
)  # fmt: skip
RELEASING = (
    "even if it means {p}", "and {p} is acceptable", "and there is no harm in {p}",
    "{p} is fine, no need to rule it out", "and I can live with {p}",
    "don't try to avoid {p}", "whatever the risk of {p}", "{p} is not out of the question",
)  # fmt: skip

# Clauses about something that is not the request; `{g}` a gerund phrase.
ASIDES_BEFORE = (
    "We are done with {g}.", "My colleague is busy with {g}, that is not for you.",
    "Last week was all about {g}.", "Yesterday I asked you about {g}, that is settled.",
    "Somebody else takes care of {g}.", "After {g} there is one thing left.",
)  # fmt: skip
ASIDES_AFTER = (
    "({g} can wait.)", "No need for {g} yet.", "We leave {g} for next month.",
    "I will take care of {g} myself.", "This has nothing to do with {g}.",
)  # fmt: skip

OPENERS = (
    "", "", "", "please ", "can you ", "could you ", "I need you to ", "hey, ", "ok, ", "so, ",
    "next: ", "your task: ", "help me ", "I'd like you to ", "quick one: ", "when you can, ",
)  # fmt: skip

ACCEPTANCES = (
    "yes", "yes, do it", "go on", "continue", "ok go ahead", "do it", "sounds good, go", "sure",
    "yep", "proceed", "please continue", "yes please", "go for it", "ok, the first option",
    "that works, carry on", "y", "do that", "fine, go on", "keep going", "try again",
    "not quite, try again", "still wrong", "hmm, that did not work", "and the rest?",
    "sí, adelante", "ja, mach das", "oui, vas-y",
)  # fmt: skip
TRANSFERS = (
    "now the same for {o}", "do that for {o} too", "same with {o}", "and {o}?",
    "repeat this for {o}", "apply it to {o} as well", "sorry, I meant {o}", "what about {o}?",
)  # fmt: skip
PLEASANTRIES = (
    "thanks!", "great, thank you", "perfect", "hi", "good morning", "nice one", "lol ok",
    "you are a life saver", "how are you?", "cool", "bye for now", "danke!", "merci beaucoup",
    "gracias", "that's all for today", "wow, that was quick", "cheers", "have a nice evening",
)  # fmt: skip
QUESTIONS = (
    "what does {t} mean?", "how do you spell {t}?", "is {t} one word or two?",
    "what's another word for {t}?", "who came up with {t}?", "what is {t} in Spanish?",
)  # fmt: skip
TERMS = (
    "idempotent", "lazy loading", "heteroscedastic", "lemma", "ledger", "backoff", "quorum",
    "epigraph", "escrow", "p-value", "mutex", "modulo", "colophon", "deposit", "cron", "median",
    "throughput", "corollary", "subclause", "checksum",
)  # fmt: skip
ANSWERS = (
    "I looked at {o}. Shall I go on?", "Here is what I would do about {o}.",
    "This is how {o} looks now. Anything else?", "About {o}: see below. Is that what you meant?",
    "I have an idea for {o}. Do you want it in full?", "{o}: done as far as I can tell.",
)  # fmt: skip
PASTED_LINES = (
    "{n}:{n} INFO worker {n} picked up job {n}", "{n}:{n} WARN slow answer after {n} ms",
    "id,{n},{n},open,{n}", "    return value_{n} + offset_{n}", "GET /v1/items/{n} 200 {n} ms",
    "row {n}: {n} | {n} | ok", "def step_{n}(x): return x * {n}", "Total {n} of {n} done",
    "on the {n}th the figure was {n}", "ERROR code {n} at line {n}",
)  # fmt: skip
