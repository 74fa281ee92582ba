"""Credentials in texts: told by their kind, or replaced before anybody else reads the text.

By patterns, as the well-known scanners go: tokens by the form that their issuer gives them, and
values assigned to a name such as password, token or api_key that look neither like words nor like
a placeholder. What is inside an archive or a compressed column is not seen. A line that says
`pragma: allowlist secret` or `gitleaks:allow` is passed over by `kinds`.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

TOKENS = {
    "a private key": r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"|PuTTY-User-Key-File-\d:",
    "an AWS access key": r"\b(?:AKIA|ASIA|ABIA|ACCA)(?![A-Z2-7]*EXAMPLE)[A-Z2-7]{16}\b",
    "a GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255})\b",
    "a GitLab token": r"\bgl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat|ffct)-[\w-]{20,}",
    "a Hugging Face token": r"\b(?:hf_[A-Za-z0-9]{30,}|api_org_[A-Za-z0-9]{30,})\b",
    "a Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-\d-[A-Za-z0-9-]{10,}"
    r"|hooks\.slack\.com/services/T\w+/B\w+/\w{16,}",
    "a Google key": r"\bAIza[\w-]{35}(?![\w-])|\bGOCSPX-[\w-]{28}(?![\w-])|\bya29\.[\w-]{20,}",
    "an API key": r"(?<![\w-])sk-(?:(?:ant|proj|svcacct|admin|or-v1)-[\w-]{20,}|[A-Za-z0-9]{20,})"
    r"|\b[rs]k_live_[A-Za-z0-9]{20,}|\bSG\.[\w-]{22}\.[\w-]{43}|\bnpm_[A-Za-z0-9]{36}\b"
    r"|\bpypi-AgE[\w-]{50,}|\bdapi[0-9a-f]{32}\b|\bdo[opr]_v1_[0-9a-f]{64}\b",
    "an Azure key": r"\b(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{42,86}={1,2}"
    r"|[?&]sig=[A-Za-z0-9%+/]{40,}",
    "a JSON web token": r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]*",
    "an authorization header": r"(?i:authorization)[\\\"']{0,2}\s{0,4}[:=]\s{0,4}[\\\"']{0,2}"
    r"(?i:bearer|basic|token)\s+[A-Za-z0-9._~+/-]{16,}=*",
    "a login for a registry": r"\"auth\"\s{0,4}:\s{0,4}\"[A-Za-z0-9+/]{20,}={0,2}\""
    r"|\bmachine\s+\S+\s+login\s+\S+\s+password\s+\S+",
}
"""Patterns by the kind of credential that they find."""

URI = "a password in a URI"
ASSIGNED = "a literal password, token or key"

NAME = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret(?:[_-]?key)?|token"
    r"|(?:api|access|account|auth|encryption)[_-]?key)"
)
KNOWN = {kind: re.compile(pattern) for kind, pattern in TOKENS.items()}
WITH_PASSWORD = re.compile(
    r"://(?P<user>[!-~]{0,64}?):(?P<value>[^\s/:@\"'<>`\x7f-\U0010ffff]{6,200})@"
)
WITH_USER = re.compile(
    r"://(?:[^/\s:@\[\"'<>]{0,100}:(?!\d{1,5}(?:[/?#\s]|$))[^\s@\"'<>]{0,200}@"
    r"(?:[^\s/@\"'<>]{0,200}@){0,3}|[^/\s]{1,300}@)"
)
VALUE = re.compile(
    rf"(?i){NAME}[\\\"'\]]{{0,3}}[ \t]{{0,4}}"
    r"(?::[ \t]{0,4}[\w.|\[\] ]{1,40}=|:=|=>|[=:])[ \t]{0,4}"
    r"(?:\\?[\"'`](?P<quoted>[^\s\"'`\\]{8,200})\\?[\"'`]"
    r"|(?P<bare>[^\s\"'`,;()\[\]{}<>\\]{8,200})(?=[\s,;\\\"']|$))"
)
OPTION = re.compile(
    rf"(?i)--[\w-]{{0,40}}?{NAME}[ \t]{{1,4}}(?P<value>[^\s\"'`-][^\s\"'`]{{7,200}})"
)
LOOSE = re.compile(
    rf"(?i)((?:{NAME}|\bsig)=\\?[\"'`]?)"
    r"(?!(?:\d{1,6}|none|null|true|false)(?:\W|$)|[${<*…])[^&\s\"'`\\]+"
)
ALLOWED = re.compile(r"(?m)^.*(?:pragma: allowlist secret|gitleaks:allow).*$")

PLACEHOLDER = re.compile(
    r"(?i)^[$<\[|%]|\$[{(]|\{[^}]*\}|<\w+>|\*\*\*|%\(|%s|…|\.\.\.|example|change.?me|your|dummy"
    r"|placeholder|redacted|hunter2"
    r"|passw(?:or)?d|xxxx|^(?:secret|token|test)$|^[.~]{0,2}/|://|^sha\d+[:-]"
)
WORD = re.compile(r"[A-Za-z]*\d{0,3}[A-Za-z]{0,2}")
LEAST_ENTROPY = 2.8
"""Bits a character: of eight different ones 3, of `aaaa1111` 1."""


def kinds(text: str) -> list[str]:
    """The kinds of credentials that a text holds, without the credentials."""
    text = ALLOWED.sub("", text)
    found = []
    for kind, pattern in KNOWN.items():
        text, count = pattern.subn("…", text)
        found += [kind] * (count > 0)
    if any(_is_password(match) for match in WITH_PASSWORD.finditer(text)):
        found.append(URI)
    if any(_is_credential(_value(m)) for m in VALUE.finditer(text)) or any(
        _is_credential(match["value"]) for match in OPTION.finditer(text)
    ):
        found.append(ASSIGNED)
    return found


def redact(text: str) -> str:
    """`text` without credentials, the user info of any URI in it among them."""
    text = WITH_USER.sub("://", text)
    for pattern in KNOWN.values():
        text = pattern.sub("…", text)
    for pattern in (VALUE, OPTION):
        text = pattern.sub(_without_value, text)
    return LOOSE.sub(r"\1…", text)


def redacted(value: Any) -> Any:
    """A value of JSON, each text in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: redacted(each) for key, each in value.items()}
    return [redacted(each) for each in value] if isinstance(value, list | tuple) else value


def _value(match: re.Match[str]) -> str:
    """What a match of VALUE or OPTION says that the credential is."""
    return next(text for text in match.groupdict().values() if text)


def _without_value(match: re.Match[str]) -> str:
    value = _value(match)
    return match[0].replace(value, "…") if _is_credential(value) else match[0]


def _is_password(match: re.Match[str]) -> bool:
    value = match["value"]
    return value != match["user"] and not PLACEHOLDER.search(value)


def _is_credential(value: str) -> bool:
    """Letters and digits as nobody would write them in words, names, versions or paths."""
    if PLACEHOLDER.search(value) or not re.search(r"\d", value) or not re.search("[A-Za-z]", value):
        return False
    if all(WORD.fullmatch(part) for part in re.split(r"[-_./+=:,$\[\]()]", value)):
        return False
    counts = Counter(value).values()
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
    return entropy >= LEAST_ENTROPY
