"""The query of an address below /api: names that the operation declares, each once, old words read as the new ones."""

from __future__ import annotations

from collections.abc import Collection

from django.http import HttpRequest

from workflows.edge.values import OLD_WORDS, refuse_unknown
from workflows.errors import InvalidInput


def settle(request: HttpRequest, known: Collection[str], *, repeatable: Collection[str] = ()) -> None:
    """Change the old words of the request's query to the new ones. Raises InvalidInput for what it can't mean.

    An unknown name is refused, since ignoring a filter would give everything; so is a name that is given twice, since
    only one of the values would count.
    """
    query = request.GET.copy()
    for old in [name for name in request.GET if name not in known and OLD_WORDS.get(name) in known]:
        new = OLD_WORDS[old]
        if new in query:
            raise InvalidInput(f"query: {old!r} is the old word for {new!r}; give {new!r} alone.")
        query.setlist(new, query.pop(old))
    refuse_unknown(query, known, what="query")
    for name, values in query.lists():
        if len(values) > 1 and name not in repeatable:
            raise InvalidInput(f"query: {name!r} is given {len(values)} times; give it once.")
    request.GET = query  # type: ignore[assignment]  # nobody changes it any more
