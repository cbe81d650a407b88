"""Where a request comes from: a program on this machine, or a page in a browser."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port

_OWN = {"same-origin", "none"}


def is_program_here(request: HttpRequest) -> bool:
    """Whether a program on this machine sent it: not a page of another site in a browser that runs here.

    Such a page may post text without asking first (no preflight), also to a name of its own that it lets point to this
    machine (DNS rebinding): so the host must be this machine's, and what browsers say of the page must be ours.
    """
    return _is_loopback(request.META.get("REMOTE_ADDR", "")) and _names_us(request) and not is_foreign_page(request)


def is_foreign_page(request: HttpRequest) -> bool:
    """Whether a browser says that a page of another origin sent it. (Programs say nothing about themselves.)"""
    if request.headers.get("Sec-Fetch-Site", "none") not in _OWN:
        return True
    own = f"{request.scheme}://{request.get_host()}"
    for name in ("Origin", "Referer"):
        said = request.headers.get(name)
        if said is not None:
            parts = urlsplit(said) if said != "null" else None
            return parts is None or f"{parts.scheme}://{parts.netloc}" != own
    return False


def _names_us(request: HttpRequest) -> bool:
    """Whether the host is loopback or one that ALLOWED_HOSTS names in full: a wildcard there takes any name."""
    host = split_domain_port(request.get_host())[0]
    return host in settings.ALLOWED_HOSTS or _is_loopback(host.strip("[]"))


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
