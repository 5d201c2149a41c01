"""Forms of user names: in paths, prompts of a shell, commands and listings."""

from __future__ import annotations

import re
from collections.abc import Callable

from turnout.redaction.form import Form

_KIND, _TAG = "user name in a path", "<USER>"
# System accounts, and placeholders of documentation.
_NOBODY = frozenset(
    {
        *("all", "daemon", "default", "defaultuser", "defaultuser0", "git", "localhost", "name"),
        *("nobody", "public", "root", "shared", "user", "username", "users", "you", "your-name"),
        *("your-user", "your_name", "yourname", "youruser"),
    }
)
# Routes of web sites under /home and /Users.
_PAGES = frozenset(
    {
        *("about", "account", "admin", "api", "app", "assets", "components", "config", "contact"),
        *("create", "dashboard", "edit", "feed", "home", "images", "index", "info", "list"),
        *("login", "logout", "main", "navigation", "new", "news", "page", "pages", "profile"),
        *("routes", "search", "section", "settings", "static", "styles", "views"),
    }
)
_FILE_OF_A_SITE = re.compile(r"(?i)\w+\.(?:jsx?|tsx?|mjs|html?|vue|svelte|s?css|php|py|md|json)$")
_END = r"\s/\\\"'`<>:|*?,;)(\]\[{}%&=#"
_NAME = rf"(?![<$%{{])[^{_END}]{{1,64}}"
# "Ann Lee" is one name only where the path goes on behind it.
_SPACED = rf"{_NAME}(?:(?:[ ][A-Z][^{_END}]{{0,32}}){{1,3}}(?=[/\\]))?"
_SLASH = r"(?:\\{0,2}/|%2[Ff])"
_BEFORE_HOME = re.compile(
    rf"(?:^|[^\w.~-]|%3[Aa]|%2[Ff])(?:/(?:var|export|data|net|nfs|mnt|srv))?{_SLASH}$"
)
_BEFORE_USERS = re.compile(
    rf"(?:(?:^|[^\w.~-]|%3[Aa]|%2[Ff])(?:/[a-z]|/mnt/[a-z])?{_SLASH}|\b[A-Za-z](?::|%3[Aa])[\\/]{{1,4}}"
    r"|(?:^|[^\\\w])(?:\\{2,4}|//)[\w.$-]{1,64}[\\/]{1,2})$"
)
_BEFORE_DRIVES = re.compile(r"\b[A-Za-z]:[\\/]{1,4}$")
_BEFORE_HYPHENS = re.compile(r"(?:^|[^\w.>-])(?:[A-Za-z]-)?$")
_LOOK_BACK = 80


def _is_somebody(match: re.Match[str]) -> bool:
    return match["value"].lower() not in _NOBODY


def _after(before: re.Pattern[str]) -> Callable[[re.Match[str]], bool]:
    def accepts(match: re.Match[str]) -> bool:
        name = match["value"].lower()
        if name in _NOBODY or name in _PAGES or _FILE_OF_A_SITE.match(name):
            return False
        return (
            before.search(match.string[max(0, match.start() - _LOOK_BACK) : match.start()])
            is not None
        )

    return accepts


def _form(
    hints: tuple[str, ...],
    pattern: str,
    accepts: Callable[[re.Match[str]], bool] = _is_somebody,
    *,
    flags: int = 0,
) -> Form:
    return Form(_KIND, _TAG, hints, re.compile(pattern, flags), accepts)


FORMS = (
    _form(("home/", "home%2f", "home\\"), rf"home{_SLASH}(?P<value>{_NAME})", _after(_BEFORE_HOME)),
    _form(
        ("users", "documents and settings"),
        rf"(?:Users|Documents and Settings)(?:\\{{1,4}}|{_SLASH})(?P<value>{_SPACED})",
        _after(_BEFORE_USERS),
    ),
    # `users` in lower case is a folder of people only on a drive; elsewhere a route of a web site.
    _form(
        (":\\users", ":/users"), rf"users[\\/]{{1,4}}(?P<value>{_SPACED})", _after(_BEFORE_DRIVES)
    ),
    # Folder names in which a tool writes a whole path with hyphens.
    _form(
        ("-users-", "-home-"),
        r"-(?:Users|home)-(?P<value>[A-Za-z0-9_.]{1,32})(?=-)",
        _after(_BEFORE_HYPHENS),
    ),
    # ann@host:~$   ann@host src %   [ann@host src]$   scp x ann@host:/srv
    _form(
        ("@",),
        r"(?<![\w.@/+%:-])(?P<value>[A-Za-z_][\w.-]{0,31})(?=@[A-Za-z][\w.-]{0,63}"
        r"(?::[/~]|[ ][^\s%$#]{1,80}(?:\][$#]|[ ][%$#][ ])))",
    ),
    _form(
        ("ssh", "scp", "sftp", "rsync", "mosh"),
        r"(?:ssh|scp|sftp|rsync|mosh)[ \t](?:[^\n|;&]{0,160}?[ \t])?"
        r"(?P<value>[A-Za-z_][\w.-]{0,31})(?=@[\w\[])",
    ),
    # A long listing, a variable of the shell, another's home.
    _form(
        ("rw", "r-", "x "),
        r"^[dlbcps-][rwxsStT-]{9}[+@.]?[ \t]{1,4}\d{1,6}[ \t]{1,4}"
        r"(?P<value>[A-Za-z_][\w.-]{0,31})(?=[ \t])",
        flags=re.MULTILINE,
    ),
    _form(
        ("user=", "logname=", "username="),
        rf"(?:USER(?<![\w-]USER)|LOGNAME|USERNAME(?<![\w-]USERNAME)|SUDO_USER)=[\"']?"
        rf"(?P<value>{_NAME})",
    ),
    _form(("~",), r"~(?<![\w/~.\\]~)(?P<value>[a-z_][\w-]{1,31})(?=/)"),
)
