"""The two login pages (dashboard and admin) behind one brake."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.admin.sites import site
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render, resolve_url
from django.utils import timezone

from workflows.edge import logins
from workflows.edge.logins import TooManyLogins

COOKIE = "headrace_browser"
COOKIE_S = 365 * 86_400
View = Callable[..., HttpResponseBase]


def braked(view: View) -> View:
    """The login view; after too many tries it answers 429 with the time to wait, and looks at no password."""

    @functools.wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        account = request.POST.get("username", "")
        try:
            this = logins.begin(
                account,
                request.META.get("REMOTE_ADDR", ""),
                browser=request.COOKIES.get(COOKIE, ""),
                now=timezone.now(),
            )
        except TooManyLogins as error:
            refused = render(request, "headrace/too_many_logins.html", {"reason": str(error)}, status=error.status)
            refused["Retry-After"] = str(error.retry_after_s)
            return refused
        response = view(request, *args, **kwargs)
        if response.status_code == 302:  # a login view answers a wrong password with its form again
            logins.succeed(this)
            response.set_cookie(
                COOKIE,
                logins.known_browser(account),
                max_age=COOKIE_S,
                httponly=True,
                samesite="Lax",
                secure=settings.SESSION_COOKIE_SECURE,
            )
        return response

    return checked


class DashboardLogout(LogoutView):
    """To where the project sends people who have logged out, or to its login."""

    def get_default_redirect_url(self) -> str:
        return resolve_url(settings.LOGOUT_REDIRECT_URL or settings.LOGIN_URL)


dashboard_login = braked(LoginView.as_view(template_name="headrace/login.html"))
admin_login = braked(site.login)
