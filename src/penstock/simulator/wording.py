"""What free strings, booleans and numbers of a reply say of a judged text, told from their field's name.

roles → [wording] → writers
"""

from __future__ import annotations

from collections.abc import Callable

from penstock.simulator.roles import Draw, Label


def text_role(label: Label) -> Callable[[Draw], str]:
    """What a free string says."""
    for names, say in _TEXT_ROLES:
        if label.words & names:
            return _signed_aspect if label.signed and say is _aspect else say
    return _snippet


def _evidence(draw: Draw) -> str:
    return draw.profile.quote


def _reason(draw: Draw) -> str:
    if not draw.profile.signals:
        return ""
    signal = draw.profile.signals[0]
    return f"Looks like {signal.kind} ({signal.clause}): the words \u201c{signal.quote}\u201d show it."


def _summary(draw: Draw) -> str:
    text = " ".join(draw.profile.text.split())
    end = min((at for at in (text.find(mark) for mark in (". ", "! ", "? ", "\u3002")) if at > 0), default=len(text))
    return text[: min(end + 1, 100)].strip()


def _language(draw: Draw) -> str:
    return draw.profile.language


def _sentiment(draw: Draw) -> str:
    return draw.focus[1] if draw.focus else draw.profile.sentiment


def _aspect(draw: Draw) -> str:
    if draw.focus:
        return draw.focus[0]
    return draw.profile.aspects[0][0] if draw.profile.aspects else "product"


def _reply(draw: Draw) -> str:
    return _THANKS.get(draw.profile.language, _THANKS["en"])


_THANKS = {
    "en": "Thank you for writing; the right team has your message.",
    "de": "Danke für Ihre Nachricht, das richtige Team hat sie.",
    "es": "Gracias por su mensaje, ya lo tiene el equipo adecuado.",
    "fr": "Merci pour votre message, la bonne équipe l'a reçu.",
    "pt": "Obrigado pela mensagem, a equipa certa já a tem.",
    "it": "Grazie per il messaggio, lo ha la squadra giusta.",
    "vi": "Cảm ơn bạn, bộ phận phụ trách đã nhận được tin nhắn.",
    "id": "Terima kasih, tim yang tepat sudah menerima pesan Anda.",
    "zh": "谢谢您的留言, 相关团队已经收到。",
}
_SIGNS = {"positive": "+", "negative": "-"}


def _signed_aspect(draw: Draw) -> str:
    return _SIGNS.get(_sentiment(draw), "") + _aspect(draw)


def _snippet(draw: Draw) -> str:
    words = draw.profile.text.split()
    start = draw.pick(max(len(words) - 4, 1), 17)
    return " ".join(words[start : start + 5])[:80]


def _id(draw: Draw) -> str:
    return f"{draw.pick(1 << 32, 41):07x}"


_TEXT_ROLES: tuple[tuple[frozenset[str], Callable[[Draw], str]], ...] = (
    (frozenset({"i", "id", "key", "uuid"}), _id),
    (frozenset({"evidence", "quote", "excerpt", "passage", "span", "citation"}), _evidence),
    (frozenset({"reason", "rationale", "explanation", "justification", "why", "note"}), _reason),
    (frozenset({"reply", "response", "answer"}), _reply),
    (frozenset({"summary", "title", "headline", "gist", "abstract"}), _summary),
    (frozenset({"language", "lang", "locale"}), _language),
    (frozenset({"sentiment", "mood"}), _sentiment),
    (frozenset({"aspect", "aspects", "topic", "topics", "category", "name", "feature", "features", "themes"}), _aspect),
)

_FLAGS = {"spam": "spam", "abuse": "abuse", "abusive": "abuse", "toxic": "abuse", "fake": "fake", "paid": "fake", "injection": "injection"}  # fmt: skip


def flag_role(label: Label) -> Callable[[Draw], bool]:
    """What a boolean says."""
    for word in label.words:
        if word in _FLAGS:
            kind = _FLAGS[word]
            return lambda draw: any(signal.kind == kind for signal in draw.profile.signals)
    if label.words & {"urgent", "escalate"}:
        return lambda draw: draw.profile.urgent
    if label.words & {"clean", "safe", "publish", "allowed"}:
        return lambda draw: draw.profile.severity == 0
    return lambda draw: bool(draw.pick(2, 19))


_LEVELS = {"negative": 1, "mixed": 3, "neutral": 3, "positive": 5}


def number_role(label: Label) -> Callable[[Draw], int]:
    """What a number says."""
    if label.words & {"rating", "stars", "score", "sentiment"}:
        return lambda draw: _LEVELS[draw.profile.sentiment]
    if label.words & {"priority", "urgency", "severity"}:
        return lambda draw: 1 if draw.profile.urgent else 3
    return lambda draw: draw.pick(100, 23)
