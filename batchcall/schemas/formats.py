"""Formats as the usual libraries write and accept them, where the RFCs are stricter: `validate.formats = "lenient"`.

Each takes what the strict check takes, and more; what is clearly not that thing is refused all the same.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable, Mapping

from batchcall.base import late_regex

__all__ = ["LENIENT"]


def _is_date_time(text: str) -> bool:
    """2024-05-01T14:30:00 with or without a zone, seconds or a fraction of them; a space or `t` for the T. The day
    alone is midnight, for pydantic, .NET and JavaScript."""
    found = _DATE_TIME.fullmatch(text)
    if found is None or (found["time"] is not None and not _is_clock(found["time"])):
        return False
    try:
        datetime.date.fromisoformat(found["date"])
    except ValueError:
        return text.startswith("0000-")  # a year that Python does not have
    return True


_DATE_TIME = late_regex(
    r"(?P<date>\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))(?:[Tt ](?P<time>\d\d:\d\d.{,100}))?", re.ASCII
)


def _is_clock(text: str) -> bool:
    return _CLOCK.fullmatch(text) is not None


# As ISO 8601 and the usual libraries: seconds may be missing, 60 is a leap second, the zone is Z, +02:00, +0200 or +02,
# and java.time puts its name behind: 2024-05-01T14:30:00+02:00[Europe/Berlin].
_CLOCK = late_regex(
    r"(?:[01]\d|2[0-3]):[0-5]\d(?::(?:[0-5]\d|60)(?:[.,]\d{1,12})?)?"
    r" ?(?:[Zz]|UTC|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?(?::?[0-5]\d)?)?(?:\[[\w/+-]{1,64}\])?",
    re.ASCII,
)


# ISO 8601 with a sign and fractions (P1DT2H, PT0.5S, -P1D), and the days and clock of .NET and pydantic
# (1.02:03:04.5, 3 days, 04:05:06).
_NUMBER = r"\d{1,18}(?:[.,]\d{1,12})?"
_DURATIONS = (
    late_regex(
        rf"[+-]?P(?=[\dT])(?:{_NUMBER}Y)?(?:{_NUMBER}M)?(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
        rf"(?:T(?=[\d+-])(?:[+-]?{_NUMBER}H)?(?:[+-]?{_NUMBER}M)?(?:[+-]?{_NUMBER}S)?)?",
        re.ASCII | re.IGNORECASE,
    ),
    late_regex(r"[+-]?(?:\d{1,9}(?: ?d(?:ays?)?,? ?|[. ]))?\d{1,9}:[0-5]?\d(?::[0-5]?\d(?:\.\d{1,9})?)?", re.ASCII),
)


def _is_email(text: str) -> bool:
    """Something, an at sign, a host: letters of any script, as EAI allows; and with the name, "Ada <ada@x.org>"."""
    if len(text) > 1_000:
        return False
    named = _NAMED.fullmatch(text)
    local, at, host = (named["address"] if named else text).rpartition("@")
    is_address = host.startswith("[") and host.endswith("]") and _is_ip(host[1:-1].removeprefix("IPv6:"))
    return bool(at) and _LOCAL.fullmatch(local) is not None and (is_address or _is_hostname(host))


_NAMED = late_regex(r"[^<>@]*<(?P<address>[^<>]+)>")
_LOCAL = late_regex(r'(?!\.)[^\s@"(),:;<>\[\\\]\x00-\x1f\x7f]+(?<!\.)|"[^"\\\x00-\x1f]+"')


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_hostname(text: str) -> bool:
    """Letters of any script, digits, hyphens and, as DNS and containers have them, underscores; a dot may end it."""
    labels = text.removesuffix(".").split(".") if len(text) <= 253 else []
    return bool(labels) and all(_LABEL.fullmatch(label) for label in labels)


_LABEL = late_regex(r"\w(?:[\w-]{0,61}\w)?|_[\w-]{1,62}")


# As Python's uuid.UUID takes it: dashes or none, in braces, behind urn:uuid:.
_UUID = late_regex(
    r"(?:urn:uuid:)?(?P<open>\{)?[0-9a-f]{8}(?P<dash>-?)[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)"
    r"[0-9a-f]{12}(?(open)\})",
    re.ASCII | re.IGNORECASE,
)


def _is_uri(text: str) -> bool:
    """A scheme and something behind it, in any script: what browsers show and people paste."""
    return _URI.fullmatch(text) is not None and _has_sound_port(text)


_URI = late_regex(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"\x00-\x1f\x7f]+")


def _is_reference(text: str) -> bool:
    """A URI, or a path or query to go on from one."""
    return _REFERENCE.fullmatch(text) is not None and _has_sound_port(text)


_REFERENCE = late_regex(r"[^\s<>\"\\\x00-\x1f\x7f]*")


def _has_sound_port(text: str) -> bool:
    found = _AUTHORITY.match(text)
    return found is None or (found["port"] or "0").isdecimal()


_AUTHORITY = late_regex(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#@]*@)?(?:\[[^\]]*\]|[^/?#:\[\]]*)(?::(?P<port>[^/?#]*))?"
)


# What is accepted beside what the RFC has. Formats that are not here are as strict as ever.
LENIENT: Mapping[str, Callable[[str], bool]] = {
    "date-time": _is_date_time,
    "time": _is_clock,
    "duration": lambda text: len(text) <= 100 and any(form.fullmatch(text) for form in _DURATIONS),
    "email": _is_email,
    "idn-email": _is_email,
    "hostname": _is_hostname,
    "idn-hostname": _is_hostname,
    # With the name of an interface behind it: fe80::1%eth0.
    "ipv6": lambda text: len(text) <= 100 and ":" in text and _is_ip(text),
    "uri": _is_uri,
    "iri": _is_uri,
    "uri-reference": _is_reference,
    "iri-reference": _is_reference,
    "uuid": lambda text: len(text) <= 45 and _UUID.fullmatch(text) is not None,
}
