"""Forms of keys, tokens, passwords and cookies, found by their prefix or by the name before them.

Patterns begin with fixed letters, in all usual cases, so that the regex engine can skip to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from turnout.redaction.form import Form
from turnout.redaction.values import (
    bits_a_character,
    is_code,
    is_ordinary,
    is_place,
    is_placeholder,
    looks_random,
)

_KIND, _TAG = "key or token", "<KEY>"

# Prefixes that issuers give their keys, by their documentation.
_ISSUED = (
    (("sk-", "sk_", "pk-", "pk_", "rk-", "rk_"), r"(?:[A-Za-z]+[-_])*[A-Za-z0-9_-]{16,}"),
    (("whsec_",), r"[\w+/=-]{16,}"),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"), r"\w{20,}"),
    (("hf_", "api_org_", "npm_"), r"\w{20,}"),
    (("glpat-", "glptt-", "gldt-", "glrt-", "glcbt-", "glsoat-", "glft-"), r"[\w.-]{16,}"),
    (("xoxa-", "xoxb-", "xoxc-", "xoxd-", "xoxe-"), r"[\w%-]{10,}"),
    (("xoxo-", "xoxp-", "xoxr-", "xoxs-"), r"[\w%-]{10,}"),
    (("xoxe.xoxp-", "xoxe.xoxb-", "xapp-"), r"[\w-]{16,}"),
    (("pypi-",), r"[\w-]{30,}"),
    (("rubygems_", "dop_v1_", "doo_v1_", "dor_v1_", "pul-", "sbp_"), r"[a-f0-9]{40,}"),
    (("AKIA", "ASIA", "ABIA", "ACCA", "LTAI"), r"[A-Za-z0-9]{16,}"),
    (("AIza", "ya29.", "GOCSPX-", "1//0"), r"[\w-]{20,}"),
    (("SG.",), r"[\w-]{16,}\.[\w-]{16,}"),
    (("SK",), r"[a-f0-9]{32}\b"),
    (("key-", "dapi", "shpat_", "shpca_", "shppa_", "shpss_"), r"[a-fA-F0-9]{32}"),
    (("gsk_", "xai-", "r8_", "pplx-", "tgp_v1_", "fw_", "nvapi-", "tvly-", "csk-"), r"[\w-]{20,}"),
    (("lsv2_", "sq0atp-", "sq0csp-", "tskey-", "dckr_pat_", "dckr_oat_"), r"[\w-]{20,}"),
    (("lin_api_", "lin_oauth_", "ntn_", "figd_", "nfp_", "phx_"), r"[\w-]{32,}"),
    (("sntrys_", "sntryu_", "glc_", "glsa_", "ATATT3", "ATCTT3"), r"[\w+/=-]{32,}"),
    (("hvs.", "hvb.", "hvr."), r"[\w-]{20,}"),
    (("EAA",), r"[A-Za-z0-9]{60,}"),
    (("PMAK-",), r"[a-f0-9]{24}-[a-f0-9]{34}"),
    (("NRAK-",), r"[A-Z0-9]{27}"),
    (("AGE-SECRET-KEY-1",), r"[A-Z0-9]{40,}"),
    (("M", "N", "O"), r"[\w-]{23,27}\.[\w-]{6}\.[\w-]{27,40}"),  # bots of Discord
    (("eyJ",), r"[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?"),  # JSON web tokens
)  # fmt: skip
# Names of secrets, alone or at the end of a longer name (DB_PASSWORD, clientSecret).
_PASSWORD_STEMS = frozenset(
    {"pass", "pwd", "pw", "psk", "contrase", "senha", "пароль", "密码", "パスワード"}
)
_STEMS = (*sorted(_PASSWORD_STEMS), "identified by", "secret", "token", "credential", "key")
_KEY_OF_WHAT = re.compile(
    r"(?:(?i:api|app|access|account|auth|private|shared|encryption|signing|master|service|license"
    r"|webhook|client|subscription|session|deploy|admin|secret)[_-]?|[A-Z0-9]_)$"
)
_PHRASE = re.compile(r"(?i)passphrase|passcode|psk")
_FLAG = re.compile(r"--[\w-]{0,40}$")
_DIGIT_OR_SIGN = re.compile(r"[\d!@#$%^*+=?~]")
_ONE_WORD = re.compile(r"[A-Za-z]{24}")
_HEXADECIMAL = re.compile(r"[0-9a-f]*|[0-9A-F]*")
_LEAST_BITS = 3.5
_LEAST_BARE, _LEAST_UNNAMED = 6, 10


def _cases(*words: str) -> str:
    return "|".join(re.escape(case) for word in words for case in _in_all_cases(word))


def _in_all_cases(word: str) -> list[str]:
    return list(dict.fromkeys((word, word[0].upper() + word[1:], word.title(), word.upper())))


_NAME = (
    rf"(?P<name>(?P<stem>{_cases(*_STEMS)})(?P<tail>(?i:wor[dt]|wd|phrase|code|e|ña|na)?)"
    r"(?i:(?:[_-]?access)?[_-]?key)?"
    r"(?i:[_-]?(?:base|prod(?:uction)?|dev|test|live|staging|old|new|b64|base64|data|value"
    r"|\d{1,2}))?)"
)
_BETWEEN = (
    r"(?P<between>\\{0,2}[\"'`]?\]?[ \t]{0,4}"
    r"(?::[ \t]?[\w.]{1,20}(?:\[\w{1,20}\])?[ \t]{0,2}=(?!=)|:=|=>|={1,2}|:)[ \t]{0,4}"
    r"|[\"'],[ \t]{0,2}(?=[\"'])"
    r"|\\{0,2}[\"']?[,\s]\s{0,40}\\{0,2}[\"']?value\\{0,2}[\"']?[ \t]?[:=][ \t]?"
    r"|>"
    r"|(?:[ \t][a-z]{1,12}){0,4}?[ \t](?:is|was|ist|lautet)[ \t]{1,2}"
    r"|[ \t]{1,3})"
)
_AFTER_NAME = (
    rf"{_NAME}{_BETWEEN}(?P<quote>\\{{0,2}}[\"'`])?(?!<)"
    r"(?P<value>(?(quote)[^\"'`\n\\<>]{4,4096}|(?:[^\s\"'`<>,;&)\\]|&(?![\w-]{1,40}=)){4,4096}))"
)


def _is_prefixed(match: re.Match[str]) -> bool:
    """Whether a prefixed key is real; made-up ones are words with hyphens, or placeholders."""
    value = match["value"]
    if is_placeholder(value[1:]):
        return False
    return value.isupper() or any(map(str.isdigit, value)) or _ONE_WORD.search(value) is not None


def _has_random_tail(match: re.Match[str]) -> bool:
    """Whether a random string, with more letters than a hex digest, follows some prefix."""
    tail = match["tail"]
    return (
        looks_random(tail)
        and _HEXADECIMAL.fullmatch(tail) is None
        and bits_a_character(tail) >= _LEAST_BITS
        and not is_placeholder(match["value"])
    )


def _is_random(match: re.Match[str]) -> bool:
    return looks_random(match["value"]) and not is_placeholder(match["value"])


def _is_secret(match: re.Match[str]) -> bool:
    """Whether a value in the place of a secret is neither a placeholder nor a common word."""
    return not is_placeholder(match["value"]) and not is_ordinary(match["value"], "password")


def _names_a_secret(match: re.Match[str]) -> bool:
    """Whether the name is a secret's: `api_key` is, `primary_key` and `compass` are not."""
    before = match.string[max(0, match.start() - 16) : match.start()]
    stem = match["stem"]
    if stem.lower() == "key":
        owner = _KEY_OF_WHAT.search(before)
        return owner is not None and (stem.isupper() or not owner[0].isupper())
    if stem.lower() in _PASSWORD_STEMS and not match["tail"]:
        return not before[-1:].isalnum()
    return True


def _is_chosen_by_people(match: re.Match[str]) -> bool:
    """Whether people choose the value: a password may be a word, a token is random."""
    return match["stem"].lower() in _PASSWORD_STEMS or match["stem"].lower() == "identified by"


def _follows_secret_name(match: re.Match[str]) -> bool:
    """Whether a secret follows a secret's name, rather than a word, a type or code."""
    value = match["value"]
    if not _names_a_secret(match) or is_placeholder(value) or is_place(value):
        return False
    if match["quote"]:
        return _is_quoted_secret(match)
    if is_code(value):
        return False
    if looks_random(value):
        return True
    return not is_ordinary(value, match["name"]) and _is_bare_secret(match)


def _is_quoted_secret(match: re.Match[str]) -> bool:
    value, between = match["value"], match["between"]
    if re.search(r"\s", value):
        # A text with spaces is a secret only if it is called a phrase; else it is a message.
        return _PHRASE.fullmatch(match["name"]) is not None and "," not in between
    if looks_random(value):
        return True
    if is_ordinary(value, match["name"]):
        return False
    signed = _DIGIT_OR_SIGN.search(value) is not None
    if between.isspace():
        return signed and _is_chosen_by_people(match)
    return _is_chosen_by_people(match) or (signed and len(value) >= _LEAST_UNNAMED)


def _is_bare_secret(match: re.Match[str]) -> bool:
    """Whether an unquoted word after a secret's name is one: a file or a command sets it."""
    value, between = match["value"], match["between"]
    if _FLAG.search(match.string[max(0, match.start() - 48) : match.start()]):
        return len(value) >= _LEAST_BARE and not value.startswith("-")
    if not re.search("[:=>]", between):
        return False
    if value.isdigit():
        return _is_chosen_by_people(match) and len(match["name"]) > len("pass")
    after = match.string[match.end() : match.end() + 1]
    set_by_a_file = (between == "=" and after not in {",", ")"}) or (between + after == "><")
    if not _is_chosen_by_people(match):
        return set_by_a_file and match["name"].isupper() and len(value) >= _LEAST_UNNAMED
    return len(value) >= _LEAST_BARE and (set_by_a_file or _is_setting(value, after))


def _is_setting(value: str, after: str) -> bool:
    # `password: TokenType,` is code; a lower-case word at the end of its line is a setting.
    if _DIGIT_OR_SIGN.search(value):
        return True
    return value.islower() and value.isalpha() and after in {"", "\n"}


def _is_authorization(match: re.Match[str]) -> bool:
    parts = match["value"].split()
    return any(looks_random(part, least=12) or (part[-1] == "=" and part[15:]) for part in parts)


def _form(
    hints: tuple[str, ...],
    pattern: str,
    accepts: Callable[[re.Match[str]], bool] = _is_secret,
    *,
    flags: int = 0,
) -> Form:
    return Form(_KIND, _TAG, hints, re.compile(pattern, flags), accepts)


def _issued(form: tuple[tuple[str, ...], str]) -> Form:
    prefixes, tail = form
    pattern = "|".join(
        rf"{re.escape(prefix)}(?<!\w{re.escape(prefix)}){tail}" for prefix in prefixes
    )
    return _form(tuple(map(str.lower, prefixes)), rf"(?P<value>{pattern})", _is_prefixed)


_SPACED_SIGN = r"\\{0,2}[\"'`]?[ \t]{0,4}[:=,][ \t]{0,4}\\{0,2}[\"'`]?"
_OPTIONS = r"[^\n|;]{0,160}?[ \t]"

FORMS = (
    Form(
        "private key",
        _TAG,
        ("private key",),
        re.compile(
            r"(?P<value>-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"[^-]*(?:-(?!----)[^-]*)*(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?)"
        ),
    ),
    *map(_issued, _ISSUED),
    # Any other prefix, except those of digests, messages and calls.
    _form(
        ("_", "-"),
        r"(?<![\w/+.@:-])(?!(?i:sha\d|md5|call|msg|req|run|resp|chatcmpl|toolu|evt|thread|asst|file"
        r"|step|trace|span|id|build|commit|img|chunk))"
        r"(?P<value>[A-Za-z][A-Za-z0-9]{1,15}(?:[_-][A-Za-z0-9]{1,12}){0,3}[_-]"
        r"(?P<tail>[A-Za-z0-9]{24,512}))(?![\w/+-])",
        _has_random_tail,
    ),
    # A bot of Telegram; a password's hash by crypt(3).
    _form((":a",), r":(?<=\d{8}:)(?P<value>A[A-Za-z][\w-]{33})(?![\w-])"),
    _form(
        ("$",), r"(?P<value>\$(?:[1567y]|2[abxy]|apr1|gy|argon2(?:id?|d))\$[\w./$=,+-]{12,})", bool
    ),
    _form(
        ("hooks.slack.com", "/webhook"),
        r"(?:hooks\.slack\.com/(?:services|workflows|triggers)/|discord\.com/api/webhooks/\d{1,24}/"
        r"|discordapp\.com/api/webhooks/\d{1,24}/|webhook\.office\.com/webhookb2/)"
        r"(?!<)(?P<value>[\w/@-]{20,400})",
    ),
    _form(
        ("authorization",),
        rf"(?:{_cases('authorization')}){_SPACED_SIGN}"
        r"(?i:(?:basic|bearer|token|digest|negotiate|apikey|api-key|key|oauth|bot)[ \t]{1,3})?(?!<)"
        r"(?P<value>[^\"'`\n<>\\]{8,4096})",
        _is_authorization,
    ),
    _form(
        ("bearer",),
        rf"(?:{_cases('bearer')})\s(?!<)(?P<value>[^\s\"'<>,;${{}}\\]{{10,4096}})",
        _is_random,
    ),
    _form(
        ("cookie",),
        rf"(?:{_cases('cookie')})s?{_SPACED_SIGN}(?!<)"
        r"(?P<value>[\w.-]{1,64}=[^\"'`\n<>\\]{8,8192})",
    ),
    # The password in a URL, a token in place of its user, and secrets in its query.
    _form(("://",), r"://[^\s/:@<>\"']{0,64}:(?!<)(?P<value>[^\s/@<>\"']{1,128})(?=@)"),
    _form(("://",), r"://(?!<)(?P<value>[\w.~%+-]{16,256})(?=@)", _is_random),
    _form(
        ("=",),
        r"[?&](?:amp;)?(?i:sig|signature|x-(?:amz|goog)-(?:signature|credential|security-token)"
        r"|code|key|auth|sid|session|jwt|hmac|pass|pw|secret|code_verifier|state|nonce)="
        r"(?!<)(?P<value>[^\s\"'`<>&;)\\]{10,4096})",
        _is_random,
    ),
    # Programs that take a password after a flag without a telling name.
    _form(
        ("curl", "wget", "http"),
        rf"(?:curl|wget|http){_OPTIONS}(?:-u|--user|--proxy-user|-U|-a|--auth)[ =]?[\"']?"
        r"[^\s:\"'<>$]{1,64}:(?!<)(?P<value>[^\s\"'<>]{3,256})",
        lambda match: not match["value"].isdigit() and _is_secret(match),
    ),
    _form(
        ("curl",),
        rf"curl{_OPTIONS}(?:-b|--cookie)[ =]?[\"']?(?!<)"
        r"(?P<value>[\w.-]{1,64}=[^\"'\n<>]{8,4096})",
    ),
    _form(
        ("sshpass", " login"),
        rf"(?:sshpass|docker login|podman login|nerdctl login|registry login|oc login|az login)"
        rf"{_OPTIONS}-p[ =]?[\"']?(?!<)(?P<value>[^\s\"'<>]{{4,256}})",
    ),
    _form(
        ("mysql", "mariadb"),
        rf"(?:mysql|mariadb){_OPTIONS}-p[\"']?(?!<)(?P<value>[^\s\"'<>]{{4,256}})",
    ),
    _form(("redis-cli",), rf"redis-cli{_OPTIONS}-a[ ][\"']?(?!<)(?P<value>[^\s\"'<>]{{4,256}})"),
    # Calls that take a user and a password, or a password alone.
    _form(
        ("auth", ".login("),
        r"(?:auth=\(|auth = \(|Auth\(|auth\(|\.login\()\s?[\"'][^\"'\n]{1,64}[\"'],\s?[\"'](?!<)"
        r"(?P<value>[^\"'\n<>]{4,256})",
    ),
    _form(("securestring",), r"SecureString[ \t][\"'](?!<)(?P<value>[^\"'\n<>]{4,256})"),
    # A line of PostgreSQL's password file.
    _form(
        (":5432:", ":*:"),
        r"^[\w.*-]{1,80}:(?:\d{2,5}|\*):[\w*-]{1,64}:[\w*-]{1,64}:(?!<)(?P<value>[^\s<>]{4,256})$",
        flags=re.MULTILINE,
    ),
    Form(_KIND, _TAG, _STEMS, re.compile(_AFTER_NAME), _follows_secret_name),
)
