"""The drawings of pages: the path of each, in a field of 20 by 20, drawn by its line."""

from __future__ import annotations

from typing import Final

ICONS: Final[dict[str, str]] = {
    "runs": "M3 5h8M3 10h14M3 15h11M14 5h3",
    "flows": "M5 3.5h4v4H5zM11 12.5h4v4h-4zM7 7.5v4a3 3 0 0 0 3 3h1",
    "approvals": "M4 10.5l4 4 8-9",
    "letters": "M3 5h14v10H3zM3 6l7 5 7-5",
    "limits": "M3 14a7 7 0 1 1 14 0M10 14l4-5",
    "events": "M11 2.5L4.5 11H10l-1 6.5L15.5 9H10z",
    "schedules": "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14M10 6v4l3 2",
    "overview": "M3 16V9M8 16V4M13 16v-6M17 16V7",
    "test": "M6 4l10 6-10 6z",
    "workers": "M4 4h12v5H4zM4 11h12v5H4zM7 6.5h.01M7 13.5h.01",
    "keys": "M12.5 3.5a4 4 0 1 1-2.6 7L4 16.4V14h2v-2h2l.6-.6a4 4 0 0 1 3.9-7.9M13.5 6.5h.01",
    "secrets": "M5 9h10v8H5zM7 9V6a3 3 0 0 1 6 0v3M10 12v2",
    "retention": "M4 6h12M6 6l1 11h6l1-11M8 6V3.5h4V6M9 9v5M11 9v5",
    "audit": "M5 3h7l3 3v11H5zM8 8h4M8 11h4M8 14h2.5",
    "members": "M7.5 9.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6M2.5 16.5a5 5 0 0 1 10 0M13 4a3 3 0 0 1 0 5.5M15 12a5 5 0 0 1 3 4",
    "settings": "M3 6h8M15 6h2M13 4a2 2 0 1 0 0 4 2 2 0 0 0 0-4M3 14h2M9 14h8M7 12a2 2 0 1 0 0 4 2 2 0 0 0 0-4",
    "alerts": "M5 13V9a5 5 0 0 1 10 0v4l1.5 2h-13zM8.5 17.5h3",
    "admin": "M10 2.5l6.5 2.5v5c0 4-3 6.5-6.5 7.5-3.5-1-6.5-3.5-6.5-7.5V5z",
    "api": "M7 5l-5 5 5 5M13 5l5 5-5 5",
    "design": "M3 3h6v6H3zM11 3h6v6h-6zM3 11h6v6H3zM14 11v6M11 14h6",
    "flower": "M10 8a2 2 0 1 0 0 4 2 2 0 0 0 0-4M10 8V3M10 17v-5M8 10H3M17 10h-5",
    "menu": "M3 5h14M3 10h14M3 15h14",
    "theme": "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
    "copy": "M7 7h9v9H7zM4 13V4h9",
    "help": "M7.5 7.5a2.5 2.5 0 1 1 3.5 2.3c-.8.4-1 .8-1 1.7M10 14.5h.01M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15",
    "search": "M9 3.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11M13 13l4 4",
    "download": "M10 3v10M6 9l4 4 4-4M4 16.5h12",
    "replay": "M4 10a6 6 0 1 0 2-4.5M4 3v4h4",
    "resume": "M5 4v12M9 4l8 6-8 6z",
    "fork": "M6 3v14M6 11c6 0 8-2 8-7M11.5 6L14 3.5 16.5 6",
    "cancel": "M5 5l10 10M15 5L5 15",
    "columns": "M3 4h14v12H3zM8 4v12M12.5 4v12",
    "filter": "M3 4h14l-5.5 6.5V16l-3-1.5v-4z",
    "star": "M10 3l2.2 4.5 5 .7-3.6 3.5.8 5-4.4-2.4-4.4 2.4.8-5L2.8 8.2l5-.7z",
}
