"""The organization of a login: to switch to another one; its members and their roles."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from workflows.dashboard.access import page, refused
from workflows.edge import access
from workflows.edge.access import CHANGE_ORGANIZATION
from workflows.errors import WorkflowsError
from workflows.models import Organization
from workflows.selectors.tenancy import members as member_selectors
from workflows.selectors.tenancy import quotas as quota_selectors
from workflows.services.tenancy import members


@login_required
@require_POST
def switch(request: HttpRequest) -> HttpResponse:
    """Look at another organization from now on; the session keeps it."""
    try:
        access.choose(request, request.POST.get("organization", "") or "?")
    except WorkflowsError as error:
        return refused(request, error)
    return redirect("headrace:runs")


@page()
@require_GET
def organization_page(request: HttpRequest, organization: Organization) -> HttpResponse:
    """The organization: its members, and what it may take of the installation."""
    context = {
        "quotas": quota_selectors.quotas(organization),
        "members": member_selectors.members(organization),
        "roles": [{"name": role, "what": label} for role, label in access.Role.choices],
        "mine": access.roles_of(request.user).get(organization.id, "operator of the installation"),
    }
    return render(request, "headrace/organization.html", context)


@page(CHANGE_ORGANIZATION)
@require_POST
def put_member(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Add a login or a team, or give it another role."""
    member, role = request.POST.get("member", ""), request.POST.get("role", "")
    try:
        row = members.put(organization, member, role, **access.changes_members(request.user, organization))
        messages.info(request, f"{row.member} is {row.role} now.")
    except WorkflowsError as error:
        messages.error(request, str(error))
    return redirect("headrace:organization")


@page(CHANGE_ORGANIZATION)
@require_POST
def remove_member(request: HttpRequest, organization: Organization) -> HttpResponse:
    """End a membership."""
    member = request.POST.get("member", "")
    try:
        row = members.remove(organization, member, **access.changes_members(request.user, organization))
        messages.info(request, f"{row.member} is no member any more.")
    except WorkflowsError as error:
        messages.error(request, str(error))
    return redirect("headrace:organization")
