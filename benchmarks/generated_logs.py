"""Logs whose need is decided in one stated way, for `unseen_logs.py`.

Every request is an operation on an object. Hard operations count 1, easy ones 0. The stakes of a
conversation, said in its first message and changed in one of ten later ones, count 1 or 0 as well.
A log says how much of the need is the message's own and how much the stakes'; the turns with the
greatest sums need reasoning. Follow-ups such as "go on" have no operation of their own, and take
over that of the turn before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Vocabulary:
    """The words of a language; a message joins them with `gap`."""

    hard: Sequence[str]
    easy: Sequence[str]
    objects: Sequence[str]
    high: Sequence[str]
    low: Sequence[str]
    follow_ups: Sequence[str]
    answers: Sequence[str]
    gap: str = " "


@dataclass(frozen=True)
class Log:
    """How a log is made.

    Attributes:
        message: How much the message's own operation counts.
        stakes: How much what is at stake counts.
        share: Share of the turns that need reasoning, in (0, 1).
        languages: Names of `VOCABULARIES`; each conversation is in one of them.
        turns: Fewest and most turns of a conversation.
        follow_ups: Share of follow-ups, in [0, 1].
    """

    message: float = 1.0
    stakes: float = 1.0
    share: float = 0.25
    languages: tuple[str, ...] = ("en",)
    turns: tuple[int, int] = (3, 8)
    follow_ups: float = 0.3


VOCABULARIES = {
    "en": Vocabulary(
        hard=(
            "find the race in",
            "prove that nothing is lost in",
            "redesign",
            "work out why memory grows in",
            "plan the migration of",
            "reason through the failure modes of",
            "derive the cost model of",
            "untangle the circular imports in",
            "find a faster algorithm for",
            "reconcile the two versions of",
            "explain the deadlock in",
            "choose between three designs for",
            "reproduce the flaky failure of",
            "model the consistency guarantees of",
        ),
        easy=(
            "rename a variable in",
            "fix a typo in",
            "list the files of",
            "add a comment to",
            "format",
            "print the version of",
            "bump a dependency of",
            "show the configuration of",
            "translate the labels of",
            "sort the imports of",
            "write a docstring for",
            "give an example call of",
            "count the lines of",
            "add a log line to",
        ),
        objects=(
            "the payment service",
            "the search index",
            "our scheduler",
            "the billing export",
            "the chat widget",
            "the session cache",
            "the image resizer",
            "the audit trail",
            "the login page",
            "the invoice parser",
            "the sensor gateway",
            "the recommendation job",
            "the backup script",
            "the mail queue",
            "the map tiles",
            "the booking form",
            "the report builder",
            "the feature flags",
            "the upload handler",
            "the price feed",
            "the translation memory",
            "the warehouse loader",
            "the rate limiter",
            "the push notifications",
        ),
        high=(
            "Patients depend on this.",
            "We lose money every minute it is wrong.",
            "A regulator will read the result.",
            "There is no way back once it is live.",
            "Nobody may lose a single record.",
            "Two teams already failed at it.",
            "It must hold under ten times the load.",
            "Lawyers will go through every line.",
            "An outage would ground the fleet.",
        ),
        low=(
            "It is only a toy.",
            "Nobody uses it yet.",
            "We throw it away on Friday.",
            "Rough is fine.",
            "It is for a workshop.",
            "Any answer will do.",
            "I am just curious.",
            "It runs on my laptop alone.",
            "It is a throwaway sketch.",
        ),
        follow_ups=(
            "go on",
            "yes please",
            "and the same for the next one",
            "continue",
            "ok, do that",
            "next step please",
            "sounds good, go ahead",
            "that did not work, try again",
            "again please",
            "can you finish it?",
            "proceed",
        ),
        answers=(
            "Done.",
            "Here is a first version.",
            "I changed three files.",
            "This is what I found.",
            "It works now.",
        ),
    ),
    "de": Vocabulary(
        hard=(
            "finde die Nebenläufigkeit in",
            "beweise die Fehlerfreiheit von",
            "entwirf neu:",
            "ergründe das Speicherwachstum von",
            "plane die Umstellung von",
            "durchdenke die Ausfallarten von",
            "leite das Kostenmodell her für",
            "entwirre die Abhängigkeiten in",
            "suche ein schnelleres Verfahren für",
            "wähle zwischen drei Entwürfen für",
        ),
        easy=(
            "benenne eine Variable um in",
            "berichtige einen Tippfehler in",
            "liste die Dateien auf von",
            "schreibe einen Kommentar zu",
            "formatiere",
            "zeige die Version von",
            "übersetze die Beschriftungen von",
            "zähle die Zeilen von",
            "gib einen Beispielaufruf für",
            "ergänze eine Protokollzeile in",
        ),
        objects=(
            "dem Zahlungsdienst",
            "dem Suchverzeichnis",
            "dem Zeitplaner",
            "der Rechnungsausgabe",
            "dem Sitzungsspeicher",
            "der Bildverkleinerung",
            "der Anmeldeseite",
            "dem Datensicherungslauf",
            "der Postwarteschlange",
            "dem Preisabruf",
        ),
        high=(
            "Patienten hängen davon ab.",
            "Jede Minute Fehler kostet Geld.",
            "Die Aufsicht liest mit.",
            "Danach gibt es kein Zurück.",
            "Kein Datensatz darf verloren gehen.",
        ),
        low=(
            "Es ist nur ein Spielzeug.",
            "Noch nutzt es niemand.",
            "Am Freitag werfen wir es weg.",
            "Grob genügt.",
            "Ich bin nur neugierig.",
        ),
        follow_ups=(
            "weiter",
            "ja bitte",
            "mach das",
            "nächster Schritt",
            "noch einmal bitte",
            "und jetzt ebenso beim nächsten",
        ),
        answers=("Erledigt.", "Hier ist ein erster Entwurf.", "Das habe ich gefunden."),
    ),
    "ru": Vocabulary(
        hard=(
            "найди состояние гонки в",
            "докажи корректность",
            "перепроектируй",
            "выясни, почему растёт память в",
            "спланируй перенос",
            "продумай отказы",
            "выведи модель затрат для",
            "распутай зависимости в",
            "найди более быстрый алгоритм для",
            "выбери между тремя вариантами для",
        ),
        easy=(
            "переименуй переменную в",
            "исправь опечатку в",
            "перечисли файлы",
            "добавь комментарий к",
            "отформатируй",
            "покажи версию",
            "переведи подписи",
            "посчитай строки",
            "дай пример вызова",
            "добавь запись в журнал для",
        ),
        objects=(
            "платёжной службы",
            "поискового индекса",
            "планировщика",
            "выгрузки счетов",
            "кеша сеансов",
            "обработчика картинок",
            "страницы входа",
            "резервного копирования",
            "почтовой очереди",
            "ленты цен",
        ),
        high=(
            "От этого зависят пациенты.",
            "Каждая минута ошибки стоит денег.",
            "Результат прочтёт регулятор.",
            "Назад пути не будет.",
            "Нельзя потерять ни одной записи.",
        ),
        low=(
            "Это просто игрушка.",
            "Этим пока никто не пользуется.",
            "В пятницу мы это выбросим.",
            "Сойдёт и грубо.",
            "Мне просто любопытно.",
        ),
        follow_ups=(
            "дальше",
            "да, пожалуйста",
            "продолжай",
            "следующий шаг",
            "ещё раз",
            "теперь так же для следующего",
        ),
        answers=("Готово.", "Вот первая версия.", "Вот что я нашёл."),
    ),
    "ja": Vocabulary(
        hard=(
            "の競合状態を突き止めて",
            "が正しいことを証明して",
            "を設計し直して",
            "のメモリ増加の原因を調べて",
            "の移行を計画して",
            "の障害を洗い出して",
            "の費用モデルを導いて",
            "の依存関係を解きほぐして",
            "に速いアルゴリズムを考えて",
        ),
        easy=(
            "の変数名を変えて",
            "の誤字を直して",
            "のファイルを一覧にして",
            "に注釈を足して",
            "を整形して",
            "の版を表示して",
            "の見出しを訳して",
            "の行数を数えて",
            "の呼び出し例をください",
        ),
        objects=(
            "決済サービス",
            "検索索引",
            "予定表",
            "請求書出力",
            "画像縮小",
            "ログイン画面",
            "バックアップ",
            "メール待ち行列",
            "価格配信",
        ),
        high=(
            "患者の命に関わります。",
            "間違いは毎分損失になります。",
            "監督官庁が確認します。",
            "後戻りはできません。",
            "一件も失えません。",
        ),
        low=(
            "ただの試作です。",
            "まだ誰も使っていません。",
            "金曜日に捨てます。",
            "大まかで構いません。",
            "興味があるだけです。",
        ),
        follow_ups=(
            "続けて",
            "はい、お願いします",
            "次へ",
            "もう一度",
            "次も同じように",
            "進めてください",
        ),
        answers=("できました。", "最初の案です。", "調べた結果です。"),
        gap="",
    ),
}


def turns_of(log: Log, conversations: int, seed: int) -> list[dict[str, Any]]:
    """One row a turn, as `grouped_cv.py` reads them, with the true `label`."""
    rng = np.random.default_rng(seed)
    rows = [row for number in range(conversations) for row in _conversation(log, rng, number)]
    sums = np.asarray([row.pop("sum") for row in rows])
    # A little chance, so that equal sums are told apart.
    sums += rng.normal(0, 0.05, len(sums))
    bound = np.quantile(sums, 1 - log.share)
    for row, value in zip(rows, sums, strict=True):
        row["label"] = int(value <= bound)
        row["fast_score"] = float(row["label"])
    return rows


def _conversation(log: Log, rng: np.random.Generator, number: int) -> Iterator[dict[str, Any]]:
    words = VOCABULARIES[log.languages[number % len(log.languages)]]
    messages: list[dict[str, str]] = []
    hard = stakes = False
    name = f"c{number:05}"
    for index in range(1, 1 + int(rng.integers(*log.turns, endpoint=True))):
        said = []
        if index == 1 or rng.random() < 0.1:
            stakes = bool(rng.random() < 0.5)
            said.append(rng.choice(words.high if stakes else words.low))
        if said or rng.random() >= log.follow_ups:
            hard = bool(rng.random() < 0.5)
            operation = str(rng.choice(words.hard if hard else words.easy))
            subject = str(rng.choice(words.objects))
            said.append(words.gap.join([operation, subject] if words.gap else [subject, operation]))
        else:
            said.append(rng.choice(words.follow_ups))
        rng.shuffle(said)
        messages.append({"role": "user", "content": (words.gap or "").join(map(str, said))})
        yield {
            "conversation_id": name,
            "cv_group": name,
            "turn_index": index,
            "messages": list(messages),
            "reasoning_score": 1.0,
            "sum": log.message * hard + log.stakes * stakes,
        }
        messages.append({"role": "assistant", "content": str(rng.choice(words.answers))})
